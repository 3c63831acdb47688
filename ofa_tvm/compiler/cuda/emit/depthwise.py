"""Depthwise convolutions, which also give the sums of their output's channels where squeeze-excite reads them.

A block asks for its weights, waits for the kernel before it, and copies what it needs of the map into shared memory at
once, with zeros beside the map: one trip to the L2 cache, and no bounds in the arithmetic. A thread has some channels
(16 bytes of the map) of some pixels beside each other; a row of the window's weights stays in its registers while the
inputs pass by, each read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import (
    BARRIER_CYCLES,
    MAX_GRID,
    PROLOGUE_CYCLES,
    REGISTER_FILE,
    VECTOR_BYTES,
    block_sums,
    busy_cycles,
    conversions,
    is_power_of_two,
    padded,
    rounds,
    values_of,
    vector_defines,
    whole_warps,
)
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_THREADS = 512
MAX_KERNEL = 9
MAX_REGISTERS = 190
BANK_VECTORS = 8
"""Vectors of 16 bytes that shared memory reads at once."""


@dataclass(frozen=True)
class DepthwiseTile:
    """What a block of threads computes.

    Args:
        groups: vectors of channels, a power of two.
        run: output pixels of a thread, beside each other.
        across: threads beside each other in a row.
        rows: output rows.
    """

    groups: int
    run: int
    across: int
    rows: int


@dataclass(frozen=True)
class _Cut:
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: DepthwiseTile

    @cached_property
    def channels(self) -> int:
        return self.tile.groups * values_of(self.spec)

    @cached_property
    def columns(self) -> int:
        return self.tile.run * self.tile.across

    @cached_property
    def in_rows(self) -> int:
        return (self.tile.rows - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def in_columns(self) -> int:
        return (self.columns - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def pitch(self) -> int:
        """Vectors from a row in shared memory to the next: lanes of neighbouring rows then read different banks."""
        groups, width = self.tile.groups, self.in_columns * self.tile.groups
        if groups >= BANK_VECTORS or self.tile.rows == 1:
            return width
        wanted = max(1, groups // self.spec.stride)
        return width + (wanted - width) % BANK_VECTORS

    @cached_property
    def tiles_x(self) -> int:
        return -(-self.spec.out_size // self.columns)

    @cached_property
    def tiles(self) -> int:
        """Blocks that share a map's channels."""
        return self.tiles_x * -(-self.spec.out_size // self.tile.rows)

    @cached_property
    def blocks_of_channels(self) -> int:
        return -(-self.spec.out_channels // self.channels)

    @cached_property
    def launch(self) -> Launch:
        threads = whole_warps(self.tile.groups * self.tile.across * self.tile.rows)
        return Launch((self.tiles, self.blocks_of_channels, self.spec.batch), threads)

    @cached_property
    def counters(self) -> int:
        """Floats in front of the scratch memory: a counter for each image and block of channels, in whole vectors."""
        return -(-self.spec.batch * self.blocks_of_channels // 4) * 4

    @cached_property
    def shared_bytes(self) -> int:
        sums = self.launch.threads // WARP * self.channels * self.spec.pooled
        return self.in_rows * self.pitch * VECTOR_BYTES + 4 * (self.spec.kernel_size**2 * self.channels + sums)

    @cached_property
    def registers(self) -> int:
        """About so many of a thread: sums, a row of weights, inputs, addresses."""
        vectors = self.tile.run + self.spec.kernel_size + 3 + self.spec.residual * self.tile.run / 2
        return 40 + int(vectors * values_of(self.spec))


BODY = r"""
  SHARED(window, IN_ROWS * PITCH * 4);
  SHARED(taps, KERNEL * KERNEL * CHANNELS);
  const int group = threadIdx.x % GROUPS, row = threadIdx.x / GROUPS % ROWS, run = threadIdx.x / (GROUPS * ROWS);
  const int image = blockIdx.z, first_group = blockIdx.y * GROUPS, own_group = first_group + group;
  const int first_y = blockIdx.x / TILES_X * ROWS, first_x = blockIdx.x % TILES_X * COLUMNS;
  for (int at = threadIdx.x; at < KERNEL * KERNEL * CHANNELS / 4; at += THREADS)
    copy_async(taps + at * 4, weights + blockIdx.y * (KERNEL * KERNEL * CHANNELS / 4) + at, true);
  float total[RUN][VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; v += 4) {
#if BIAS
    unpack(__ldg(bias + (own_group * VALUES + v) / 4), total[0] + v);
#else
    total[0][v] = total[0][v + 1] = total[0][v + 2] = total[0][v + 3] = 0.f;
#endif
  }
#pragma unroll
  for (int pixel = 1; pixel < RUN; ++pixel)
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] = total[0][v];
  let_next_start();
  wait_for_inputs();
  for (int at = threadIdx.x; at < IN_ROWS * IN_COLUMNS * GROUPS; at += THREADS) {
    const int one = at % GROUPS, x = at / GROUPS % IN_COLUMNS, y = at / (GROUPS * IN_COLUMNS);
    const int from_x = first_x * STRIDE - PADDING + x, from_y = first_y * STRIDE - PADDING + y;
    const bool is_there =
        from_x >= 0 && from_x < SIZE && from_y >= 0 && from_y < SIZE && first_group + one < ALL_GROUPS;
    const int place = ((image * SIZE + from_y) * SIZE + from_x) * ALL_GROUPS + first_group + one;
    copy_async(window + (y * PITCH + x * GROUPS + one) * 4, source + (is_there ? place : 0), is_there);
  }
  const int y = first_y + row;
  const bool is_own = run < ACROSS && y < OUT && own_group < ALL_GROUPS;
  const int first_place = ((image * OUT + y) * OUT + first_x + run * RUN) * ALL_GROUPS + own_group;
#if RESIDUAL
  VECTOR early[RUN];
#pragma unroll
  for (int pixel = 0; pixel < RUN; ++pixel)
    early[pixel] =
        read_map(residual + (is_own && first_x + run * RUN + pixel < OUT ? first_place + pixel * ALL_GROUPS : 0));
#endif
  await_copies();
  __syncthreads();
  if (is_own) {
    constexpr int at_once = UNROLL; /* a pragma knows no macros */
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
        unpack(*(const VECTOR *)(from + x * GROUPS * 4), value);
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
#if POOLED
  float added[VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; ++v) added[v] = 0.f;
#endif
#pragma unroll
  for (int pixel = 0; pixel < RUN; ++pixel) {
    if (!is_own || first_x + run * RUN + pixel >= OUT) continue;
#if RESIDUAL
    float more[VALUES];
    unpack(early[pixel], more);
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] += more[v];
#endif
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] = activated(total[pixel][v]);
#if POOLED
#pragma unroll
    for (int v = 0; v < VALUES; ++v) added[v] += total[pixel][v];
#endif
    store(output + first_place + pixel * ALL_GROUPS, total[pixel]);
  }
"""

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


def emit(spec: KernelSpec, tile: DepthwiseTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    body, shares = BODY, spec.pooled and cut.tiles > 1
    names = ["const VECTOR *source", "const float4 *weights", *["const float4 *bias"] * spec.bias]
    names += [*["const VECTOR *residual"] * spec.residual, "VECTOR *output", *["float *sums"] * spec.pooled]
    names += ["float *scratch"] * shares
    if shares:
        body += PARTS + block_sums(TO_SCRATCH) + LAST_BLOCK
    elif spec.pooled:
        body += block_sums(ONE_BLOCK)
    defines = vector_defines(spec) | {
        "GROUPS": tile.groups,
        "RUN": tile.run,
        "ACROSS": tile.across,
        "ROWS": tile.rows,
        "CHANNELS": cut.channels,
        "COLUMNS": cut.columns,
        "IN_ROWS": cut.in_rows,
        "IN_COLUMNS": cut.in_columns,
        "PITCH": cut.pitch,
        "TILES_X": cut.tiles_x,
        "TILES": cut.tiles,
        "COUNTERS": cut.counters,
        "KERNEL": spec.kernel_size,
        "STRIDE": spec.stride,
        "PADDING": f"({spec.padding})",
        "SIZE": spec.in_size,
        "OUT": spec.out_size,
        "ALL_GROUPS": spec.out_channels // values_of(spec),
        "UNROLL": spec.kernel_size if spec.kernel_size <= 3 else 1,
        "BIAS": int(spec.bias),
        "RESIDUAL": int(spec.residual),
        "POOLED": int(spec.pooled),
    }
    return function(spec, cut.launch, names, defines, body)


def _pack(spec: KernelSpec, tile: DepthwiseTile, constants: list[Array]) -> list[Array]:
    """Weights by block of channels, all as float32."""
    cut, k = _Cut(spec, tile), spec.kernel_size
    weight, *bias = constants
    wide = cut.blocks_of_channels * cut.channels
    blocks = padded(weight, k, k, wide).reshape(k * k, cut.blocks_of_channels, cut.channels)
    return [np.ascontiguousarray(blocks.transpose(1, 0, 2)), *(padded(one, wide) for one in bias)]


def _scratch(spec: KernelSpec, tile: DepthwiseTile) -> int:
    cut = _Cut(spec, tile)
    if not spec.pooled or cut.tiles == 1:
        return 0
    return 4 * (cut.counters + spec.batch * cut.blocks_of_channels * cut.tiles * cut.channels)


def _accepts(spec: KernelSpec) -> bool:
    is_plain = spec.kind == "depthwise" and is_float(spec) and not spec.scaled
    return is_plain and spec.kernel_size <= MAX_KERNEL and spec.out_channels % values_of(spec) == 0


def _suits(spec: KernelSpec, tile: DepthwiseTile) -> bool:
    out = spec.out_size
    is_covered = tile.run <= out and (tile.across - 1) * tile.run < out and tile.rows <= out
    if not is_power_of_two(tile.groups) or tile.groups > WARP or not is_covered:
        return False
    cut = _Cut(spec, tile)
    fits = cut.shared_bytes <= MAX_SHARED_BYTES and cut.registers * cut.launch.threads <= REGISTER_FILE
    is_grid = max(cut.launch.grid[1:]) <= MAX_GRID
    return is_grid and fits and cut.registers <= MAX_REGISTERS and cut.launch.threads <= MAX_THREADS


def _expected_us(spec: KernelSpec, tile: DepthwiseTile, gpu: GpuModel) -> float:
    cut, k, values = _Cut(spec, tile), spec.kernel_size, values_of(spec)
    launch = cut.launch
    blocks = gpu.waves(launch.grid[0] * launch.grid[1] * launch.grid[2])
    inputs = min(cut.in_rows, spec.in_size) * min(cut.in_columns, spec.in_size) * tile.groups
    outputs = min(tile.rows * cut.columns, spec.out_size**2) * tile.groups
    read = (inputs * max(VECTOR_BYTES, 32 // tile.groups) + k * k * cut.channels * 4) / gpu.l2_bytes
    traffic = read + outputs * VECTOR_BYTES / gpu.l2_bytes
    columns = (tile.run - 1) * spec.stride + k
    copies = cut.in_rows * cut.in_columns * tile.groups / launch.threads + k * k * cut.channels / 4 / launch.threads
    row = columns * (1 + conversions(spec)) + k * values / 4 + k * tile.run * values
    work = k * row + tile.run * (2 * values + 8) + 14 * copies
    reads = blocks * launch.threads / WARP * k * (columns * WARP / BANK_VECTORS + k * values / 4)
    sums = (150 + (cut.tiles > 1) * (3 * gpu.l2_cycles + 4 * cut.tiles)) * spec.pooled
    trips = rounds(gpu, launch, cut.registers, cut.shared_bytes) * (gpu.l2_cycles + BARRIER_CYCLES)
    busy = max((blocks - 1) * traffic, busy_cycles(gpu, launch, work), reads)
    return gpu.us(PROLOGUE_CYCLES + trips + read + busy + sums)


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, DepthwiseTile]]:
    out = spec.out_size
    for groups in (1, 2, 4, 8, 16):
        if groups > 1 and groups // 2 * values_of(spec) >= spec.out_channels:
            break
        for run in (1, 2, 4, 7):
            for across in sorted({1, 2, 4, 7, 14, -(-out // run)}):
                for rows in (1, 2, 4, 7, 14):
                    tile = DepthwiseTile(groups, run, across, rows)
                    if _suits(spec, tile):
                        yield _expected_us(spec, tile, gpu), tile


DEPTHWISE = CudaTemplate(
    DepthwiseTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    _pack,
    _scratch,
    _suits,
)
