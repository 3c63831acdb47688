"""Depthwise convolutions, which also give the sums of their output's channels where squeeze-excite reads them.

A row of the window's weights stays in a thread's registers while the inputs pass by, each read once; see ``window``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import (
    VECTOR_BYTES,
    block_sums,
    conversions,
    is_power_of_two,
    values_of,
    vector_defines,
)
from ofa_tvm.compiler.cuda.emit.template import WARP, CudaTemplate, function, is_float
from ofa_tvm.compiler.cuda.emit.window import COPIED, END, START, WindowCut, WindowTile, window_tiles
from ofa_tvm.graph.kernel import KernelSpec

MAX_KERNEL = 9
BANK_VECTORS = 8
"""Vectors of 16 bytes that shared memory reads at once."""


@dataclass(frozen=True)
class _Cut(WindowCut):
    @property
    def taps(self) -> int:
        return self.spec.kernel_size**2

    @cached_property
    def pitch(self) -> int:
        """Vectors from a row in shared memory to the next: lanes of neighbouring rows then read different banks."""
        groups, width = self.tile.groups, self.in_columns * self.tile.groups
        if groups >= BANK_VECTORS or self.tile.rows == 1:
            return width
        wanted = max(1, groups // self.spec.stride)
        return width + (wanted - width) % BANK_VECTORS

    @property
    def window_floats(self) -> int:
        return 4 * self.in_rows * self.pitch

    @cached_property
    def counters(self) -> int:
        """Floats in front of the scratch memory: a counter for each image and block of channels, in whole vectors."""
        return -(-self.spec.batch * self.blocks_of_channels // 4) * 4

    @property
    def shared_bytes(self) -> int:
        sums = self.launch.threads // WARP * self.channels * self.spec.pooled
        return super().shared_bytes + 4 * sums

    @property
    def registers(self) -> int:
        """Sums, a row of weights, inputs, addresses."""
        vectors = self.tile.run + self.spec.kernel_size + 3 + self.spec.residual * self.tile.run / 2
        return 40 + int(vectors * values_of(self.spec))


COPY = r"""
  for (int at = threadIdx.x; at < IN_ROWS * IN_COLUMNS * GROUPS; at += THREADS) {
    const int one = at % GROUPS, x = at / GROUPS % IN_COLUMNS, y = at / (GROUPS * IN_COLUMNS);
    const int from_x = first_x * STRIDE - PADDING + x, from_y = first_y * STRIDE - PADDING + y;
    const bool is_there =
        from_x >= 0 && from_x < SIZE && from_y >= 0 && from_y < SIZE && first_group + one < ALL_GROUPS;
    const int place = ((image * SIZE + from_y) * SIZE + from_x) * ALL_GROUPS + first_group + one;
    copy_async(window + (y * PITCH + x * GROUPS + one) * 4, source + (is_there ? place : 0), is_there);
  }
"""

PRODUCTS = r"""
  if (is_own) {
    const float *from = window + (row * STRIDE * PITCH + run * RUN * STRIDE * GROUPS + group) * 4;
    const float *tap = taps + group * VALUES;
#pragma unroll at_once
    for (int ky = 0; ky < KERNEL; ++ky) {
      float weight[KERNEL][VALUES];
#pragma unroll
      for (int kx = 0; kx < KERNEL; ++kx)
#pragma unroll
        for (int v = 0; v < VALUES; v += 4) unpack(*(const float4 *)(tap + kx * CHANNELS + v), weight[kx] + v);
#pragma unroll
      for (int x = 0; x < (RUN - 1) * STRIDE + KERNEL; ++x) {
        float value[VALUES];
        unpack(*(const HELD *)(from + x * GROUPS * 4), value);
#pragma unroll
        for (int pixel = 0; pixel < RUN; ++pixel)
          if (x >= pixel * STRIDE && x < pixel * STRIDE + KERNEL)
#pragma unroll
            for (int v = 0; v < VALUES; ++v) total[pixel][v] += value[v] * weight[x - pixel * STRIDE][v];
      }
      from += PITCH * 4;
      tap += KERNEL * CHANNELS;
    }
  }
"""
"""From a ``window`` of vectors that are ``HELD``."""

ONE_BLOCK = r"""
    const int place = first_group * VALUES + channel;
    if (place < ALL_GROUPS * VALUES) sums[image * (ALL_GROUPS * VALUES) + place] = sum;
"""

TO_SCRATCH = r"""
    parts[blockIdx.x * CHANNELS + channel] = sum;
"""

LAST_BLOCK = r"""
  if (is_last_block((unsigned *)scratch + image * gridDim.y + blockIdx.y, TILES)) {
#pragma unroll 1
    for (int channel = threadIdx.x; channel < CHANNELS; channel += THREADS) {
      float sum = 0.f;
#pragma unroll 8
      for (int tile = 0; tile < TILES; ++tile) sum += read_map(parts + tile * CHANNELS + channel);
      const int place = first_group * VALUES + channel;
      if (place < ALL_GROUPS * VALUES) sums[image * (ALL_GROUPS * VALUES) + place] = sum;
    }
  }
"""

PARTS = r"""
  float *const parts = scratch + COUNTERS + (image * gridDim.y + blockIdx.y) * (TILES * CHANNELS);
"""
"""The sums of a tile of the map, by tile and channel."""


def emit(spec: KernelSpec, tile: WindowTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    body, shares = START + COPY + COPIED + PRODUCTS + END, spec.pooled and cut.tiles > 1
    names = ["const VECTOR *source", "const float4 *weights", *["const float4 *bias"] * spec.bias]
    names += [*["const VECTOR *residual"] * spec.residual, "VECTOR *output", *["float *sums"] * spec.pooled]
    names += ["float *scratch"] * shares
    if shares:
        body += PARTS + block_sums(TO_SCRATCH) + LAST_BLOCK
    elif spec.pooled:
        body += block_sums(ONE_BLOCK)
    more = {"PITCH": cut.pitch, "TILES": cut.tiles, "COUNTERS": cut.counters, "HELD": vector_defines(spec)["VECTOR"]}
    return function(spec, cut.launch, names, cut.defines() | more, body)


def _scratch(spec: KernelSpec, tile: WindowTile) -> int:
    cut = _Cut(spec, tile)
    if not spec.pooled or cut.tiles == 1:
        return 0
    return 4 * (cut.counters + spec.batch * cut.blocks_of_channels * cut.tiles * cut.channels)


def _accepts(spec: KernelSpec) -> bool:
    is_plain = spec.kind == "depthwise" and is_float(spec) and not spec.scaled
    return is_plain and spec.kernel_size <= MAX_KERNEL and spec.out_channels % values_of(spec) == 0


def _suits(spec: KernelSpec, tile: WindowTile) -> bool:
    return is_power_of_two(tile.groups) and tile.groups <= WARP and _Cut(spec, tile).is_possible


def _expected_us(cut: _Cut, gpu: GpuModel) -> float:
    spec, tile, k, values = cut.spec, cut.tile, cut.spec.kernel_size, values_of(cut.spec)
    inputs = min(cut.in_rows, spec.in_size) * min(cut.in_columns, spec.in_size) * tile.groups
    read_bytes = inputs * max(VECTOR_BYTES, 32 // tile.groups) + k * k * cut.channels * 4
    columns = (tile.run - 1) * spec.stride + k
    copies = (cut.in_rows * cut.in_columns * tile.groups + k * k * cut.channels / 4) / cut.launch.threads
    row = columns * (1 + conversions(spec)) + k * values / 4 + k * tile.run * values
    work = k * row + tile.run * (2 * values + 8) + 14 * copies
    reads = k * (columns * WARP / BANK_VECTORS + k * values / 4)
    sums = (150 + (cut.tiles > 1) * (3 * gpu.l2_cycles + 4 * cut.tiles)) * spec.pooled
    return cut.expected_us(gpu, read_bytes, work, reads, sums)


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, WindowTile]]:
    vectors = spec.out_channels // values_of(spec)
    for tile in window_tiles(spec, (one for one in (1, 2, 4, 8, 16) if one == 1 or one // 2 < vectors)):
        if _suits(spec, tile):
            yield _expected_us(_Cut(spec, tile), gpu), tile


DEPTHWISE = CudaTemplate(
    WindowTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    lambda spec, tile, constants: _Cut(spec, tile).pack(constants),
    _scratch,
    _suits,
)
