"""A 1x1 convolution and the depthwise one that reads it, in one launch: the expanded map never leaves shared memory.

For maps that a block holds whole (14x14 and less), some channels of them: so nothing is computed twice, and sums of
channels are whole. A block makes its channels' part of the product as ``pointwise`` does, some rows of pixels after the
other, and puts it between zeros. What that saves is a launch, and a trip of the map through the L2 cache; what it costs
is that few blocks read all of the small map each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod

import numpy as np

from ofa_tvm.compiler.cuda.emit.depthwise import BANK_VECTORS
from ofa_tvm.compiler.cuda.emit.depthwise import PRODUCTS as DEPTHWISE_PRODUCTS
from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.matrix import (
    SHAPES,
    WARPS,
    MatrixTile,
    arguments,
    filled,
    fits,
    matrix_defines,
    packed,
    padded_columns,
    reduction_cycles,
    registers,
    step_channels,
    whole_vectors,
    work_cycles,
)
from ofa_tvm.compiler.cuda.emit.matrix_code import ENDS, LANES, PIXELS, PRODUCTS, START, finish
from ofa_tvm.compiler.cuda.emit.parts import (
    BARRIER_CYCLES,
    MAX_GRID,
    PROLOGUE_CYCLES,
    block_sums,
    busy_cycles,
    is_power_of_two,
    rounds,
)
from ofa_tvm.compiler.cuda.emit.pointwise_code import AGAIN, LOOP, PLACES
from ofa_tvm.compiler.cuda.emit.template import WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.dtype import DTYPE_BYTES, FLOAT32_BYTES

MAX_WINDOW = 512
"""Pixels of a map with its border."""
MAX_COLUMNS = 64
MAX_KERNEL = 9
RUNS = (1, 2, 4, 7)


@dataclass(frozen=True)
class ExpandTile(MatrixTile):
    """How the product is cut (without clusters), and the depthwise one.

    Args:
        run: output pixels of a thread at a time, beside each other.
    """

    run: int


@dataclass(frozen=True)
class _Cut:
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: ExpandTile

    @cached_property
    def steps(self) -> int:
        """Of a warp."""
        return -(-self.spec.in_channels // (step_channels(self.spec) * self.tile.warps_k))

    @cached_property
    def passes(self) -> int:
        """Blocks of rows, one after the other."""
        return -(-(self.spec.in_size**2) // self.tile.block[0])

    @cached_property
    def runs(self) -> int:
        """Of a row."""
        return -(-self.spec.out_size // self.tile.run)

    @cached_property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the map with its border, as far as windows cover it."""
        return self._covered(self.spec.out_size), self._covered(self.runs * self.tile.run)

    def _covered(self, pixels: int) -> int:
        return (pixels - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def groups(self) -> int:
        """Vectors of four channels."""
        return self.tile.block[1] // 4

    @cached_property
    def pitch(self) -> int:
        """Vectors from row to row: see ``depthwise``."""
        width = self.window[1] * self.groups
        wanted = 0 if self.groups >= BANK_VECTORS else max(1, self.groups // self.spec.stride)
        return width + (wanted - width) % BANK_VECTORS

    @cached_property
    def shared_bytes(self) -> int:
        columns, taps = self.tile.block[1], self.spec.kernel_size**2
        sums = self.spec.pooled * self.tile.warps
        return self.tile.part_bytes + FLOAT32_BYTES * (4 * self.window[0] * self.pitch + (taps + sums) * columns)

    @cached_property
    def registers(self) -> int:
        """The larger need of the product and of the depthwise one."""
        depthwise = 40 + 4 * (self.tile.run + self.spec.kernel_size + 3)
        return max(depthwise, registers(self.spec, self.tile, self.steps, min(2, self.steps)))

    @cached_property
    def launch(self) -> Launch:
        blocks = padded_columns(self.spec, self.tile) // self.tile.block[1]
        return Launch((self.spec.batch, blocks, 1), WARP * self.tile.warps)


SHARED = r"""
  SHARED(parts, WARPS_K * BLOCK_ROWS * PART_STRIDE);
  SHARED(window, IN_ROWS * PITCH * 4);
  SHARED(taps, KERNEL * KERNEL * BLOCK_COLUMNS);
  for (int at = threadIdx.x; at < KERNEL * KERNEL * BLOCK_COLUMNS / 4; at += THREADS)
    copy_async(taps + at * 4, deep_weights + blockIdx.y * (KERNEL * KERNEL * BLOCK_COLUMNS / 4) + at, true);
  for (int at = threadIdx.x; at < IN_ROWS * PITCH; at += THREADS) *(float4 *)(window + at * 4) = {0.f, 0.f, 0.f, 0.f};
  {
"""
TO_WINDOW = r"""
        const int pixel = block_row + row_of(item), y = pixel / SIZE + PADDING, x = pixel % SIZE + PADDING;
        float *const to = window + y * (PITCH * 4) + x * BLOCK_COLUMNS + column_of(item);
        if (y < IN_ROWS && x < IN_COLUMNS) *(float4 *)to = total;
"""
DEPTHWISE = r"""
  }
  await_copies();
  __syncthreads();
  constexpr int at_once = UNROLL; /* a pragma knows no macros */
  const int group = threadIdx.x % GROUPS, first_channel = blockIdx.y * BLOCK_COLUMNS + group * VALUES;
  float added[VALUES] = {};
#pragma unroll 1
  for (int unit = threadIdx.x; unit < GROUPS * OUT * RUNS && first_channel < OUTPUTS; unit += THREADS) {
    const int row = unit / GROUPS % OUT, run = unit / (GROUPS * OUT);
    constexpr bool is_own = true;
    float total[RUN][VALUES];
#pragma unroll
    for (int pixel = 0; pixel < RUN; ++pixel) {
#if BIAS
      unpack(__ldg((const float4 *)(deep_bias + first_channel)), total[pixel]);
#else
      total[pixel][0] = total[pixel][1] = total[pixel][2] = total[pixel][3] = 0.f;
#endif
    }
"""
STORES = r"""
#pragma unroll
    for (int pixel = 0; pixel < RUN; ++pixel) {
      const int x = run * RUN + pixel;
      if (x >= OUT) continue;
#pragma unroll
      for (int v = 0; v < VALUES; ++v) {
        total[pixel][v] = activated(total[pixel][v]);
        added[v] += total[pixel][v];
      }
      const float4 made = {total[pixel][0], total[pixel][1], total[pixel][2], total[pixel][3]};
      write_map(map + ((size_t)(blockIdx.x * OUT + row) * OUT + x) * OUTPUTS + first_channel, made);
    }
  }
"""
TAKE_SUM = r"""
    const int place = blockIdx.y * BLOCK_COLUMNS + channel;
    if (place < OUTPUTS) sums[blockIdx.x * OUTPUTS + place] = sum;
"""


def emit(spec: KernelSpec, tile: ExpandTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    *names, output = arguments(replace(spec, pooled=False))
    names += ["const float4 *__restrict__ deep_weights", *["const float *__restrict__ deep_bias"] * spec.bias, output]
    names += ["float *__restrict__ sums"] * spec.pooled
    defines = matrix_defines(spec, tile, cut.steps) | {
        "PIXELS": spec.in_size**2,
        "TILES": 1,
        "PASSES": cut.passes,
        "IN_ROWS": cut.window[0],
        "IN_COLUMNS": cut.window[1],
        "PITCH": cut.pitch,
        "KERNEL": spec.kernel_size,
        "STRIDE": spec.stride,
        "PADDING": f"({spec.padding})",
        "SIZE": spec.in_size,
        "OUT": spec.out_size,
        "RUN": tile.run,
        "RUNS": cut.runs,
        "HELD": "float4",
        "VALUES": 4,
        "GROUPS": cut.groups,
        "CHANNELS": tile.block[1],
        "UNROLL": spec.kernel_size if spec.kernel_size <= 3 else 1,
    }
    expand = (SHARED, START, LANES[spec.dtype], PLACES, PIXELS, PRODUCTS[spec.dtype], ENDS, LOOP, finish(TO_WINDOW))
    body = [*expand, AGAIN, DEPTHWISE, DEPTHWISE_PRODUCTS, STORES, *[block_sums(TAKE_SUM)] * spec.pooled]
    return function(spec, cut.launch, names, defines, "".join(body))


def _pack(spec: KernelSpec, tile: ExpandTile, constants: list[Array]) -> list[Array]:
    """The product's constants as ``pointwise`` has them, the depthwise one's in float32 by block of channels."""
    cut, half, columns = _Cut(spec, tile), len(constants) // 2, tile.block[1]
    (weight, *bias), (deep, *deep_bias) = constants[:half], constants[half:]
    depth = cut.steps * tile.warps_k * step_channels(spec)
    taps = filled(spec, tile, deep.reshape(1, -1, spec.out_channels), spec.kernel_size**2)
    blocks = taps.reshape(spec.kernel_size**2, -1, columns).transpose(1, 0, 2)
    deep_packed = [np.ascontiguousarray(blocks), *(one.astype(np.float32) for one in deep_bias)]
    return [*packed(spec, filled(spec, tile, weight, depth), bias), *deep_packed]


def _accepts(spec: KernelSpec) -> bool:
    if spec.kind != "expand_depthwise" or not (is_float(spec) and whole_vectors(spec)):
        return False
    extent = (spec.out_size - 1) * spec.stride + spec.kernel_size
    is_small = spec.kernel_size <= MAX_KERNEL and extent**2 <= MAX_WINDOW
    return is_small and spec.batch <= MAX_GRID and not (spec.residual or spec.scaled)


def _is_possible(cut: _Cut) -> bool:
    tile, columns = cut.tile, cut.tile.block[1]
    is_block = columns <= MAX_COLUMNS and is_power_of_two(columns) and tile.cluster == 1
    is_run = tile.run in RUNS and tile.run <= cut.spec.out_size
    is_grid = is_block and cut.launch.grid[1] <= MAX_GRID
    return is_run and is_grid and fits(cut.spec, tile, cut.registers, cut.shared_bytes)


def _expected_us(cut: _Cut, gpu: GpuModel) -> float:
    spec, tile, launch, k = cut.spec, cut.tile, cut.launch, cut.spec.kernel_size
    map_bytes = tile.block[0] * cut.steps * step_channels(spec) * tile.warps_k * DTYPE_BYTES[spec.dtype]
    work = cut.passes * work_cycles(spec, tile, cut.steps, map_bytes, gpu)
    trips = cut.passes * ((-(-cut.steps // 2) + 1) * gpu.l2_cycles + reduction_cycles(tile, gpu) + BARRIER_CYCLES)
    units = -(-cut.groups * spec.out_size * cut.runs // launch.threads)
    columns = (tile.run - 1) * spec.stride + k
    row = 2 * columns + k + 4 * k * tile.run
    zeros = 4 * cut.window[0] * cut.pitch / launch.threads
    instructions = units * (k * row + 16 * tile.run + 30) + zeros
    reads = launch.threads / WARP * units * k * (columns + k) * WARP / BANK_VECTORS
    waves = gpu.waves(prod(launch.grid))
    deep = max(busy_cycles(gpu, launch, instructions), waves * reads)
    sums = 150 * spec.pooled
    times = rounds(gpu, launch, cut.registers, cut.shared_bytes)
    return gpu.us(times * (PROLOGUE_CYCLES + trips + sums) + waves * work + deep)


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, ExpandTile]]:
    for shape, warps_m, warps_n, warps_k in product(SHAPES[spec.dtype], WARPS, WARPS, WARPS):
        if shape[0] * (warps_m - 1) >= spec.in_size**2 or shape[1] * (warps_n - 1) >= spec.out_channels:
            continue
        for run in RUNS:
            cut = _Cut(spec, ExpandTile(*shape, warps_m, warps_n, warps_k, 1, run))
            if _is_possible(cut):
                yield _expected_us(cut, gpu), cut.tile


EXPAND_DEPTHWISE = CudaTemplate(
    ExpandTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    _pack,
    suits=lambda spec, tile: _is_possible(_Cut(spec, tile)),
)
