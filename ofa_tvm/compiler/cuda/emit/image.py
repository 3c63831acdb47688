"""The convolution of an image: few channels in, some more out, with a window.

A block copies its part of the image into shared memory, zeros around it. A thread has 16 bytes of channels of some
pixels beside each other; a block has all channels.
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
    busy_cycles,
    rounds,
    values_of,
    vector_defines,
    whole_warps,
)
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_INPUTS = 4
MAX_TAPS = 24 << 10
"""Bytes of weights, which lie in shared memory."""
MAX_THREADS = 512
MAX_RUN = 8


@dataclass(frozen=True)
class ImageTile:
    """What a block of threads computes, with all channels.

    Args:
        run: output pixels of a thread, beside each other.
        across: threads beside each other in a row, for each 16 bytes of channels.
        rows: output rows.
    """

    run: int
    across: int
    rows: int


@dataclass(frozen=True)
class _Cut:
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: ImageTile

    @cached_property
    def groups(self) -> int:
        return self.spec.out_channels // values_of(self.spec)

    @cached_property
    def columns(self) -> int:
        return self.tile.run * self.tile.across

    @cached_property
    def in_rows(self) -> int:
        return (self.tile.rows - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def width(self) -> int:
        """Numbers in a row of shared memory."""
        return ((self.columns - 1) * self.spec.stride + self.spec.kernel_size) * self.spec.in_channels

    @cached_property
    def tiles_x(self) -> int:
        return -(-self.spec.out_size // self.columns)

    @cached_property
    def launch(self) -> Launch:
        tiles = self.tiles_x * -(-self.spec.out_size // self.tile.rows)
        return Launch((tiles, self.spec.batch, 1), whole_warps(self.groups * self.tile.across * self.tile.rows))

    @cached_property
    def shared_bytes(self) -> int:
        return 4 * self.in_rows * self.width + _tap_bytes(self.spec)

    @cached_property
    def registers(self) -> int:
        """About so many of a thread."""
        return 40 + (self.tile.run + 3) * values_of(self.spec)


def _tap_bytes(spec: KernelSpec) -> int:
    return 4 * spec.kernel_size**2 * spec.in_channels * spec.out_channels


BODY = r"""
  SHARED(window, IN_ROWS * WIDTH);
  SHARED(taps, KERNEL * KERNEL * INPUTS * OUTPUTS);
  const int group = threadIdx.x % GROUPS, run = threadIdx.x / GROUPS % ACROSS, row = threadIdx.x / (GROUPS * ACROSS);
  const int image = blockIdx.y;
  const int first_y = blockIdx.x / TILES_X * ROWS, first_x = blockIdx.x % TILES_X * COLUMNS;
  for (int at = threadIdx.x; at < KERNEL * KERNEL * INPUTS * OUTPUTS / 4; at += THREADS)
    copy_async(taps + at * 4, weights + at, true);
  float total[RUN][VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; v += 4) {
#if BIAS
    unpack(__ldg(bias + (group * VALUES + v) / 4), total[0] + v);
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
  for (int at = threadIdx.x; at < IN_ROWS * WIDTH; at += THREADS) {
    const int from_x = (first_x * STRIDE - PADDING) * INPUTS + at % WIDTH;
    const int from_y = first_y * STRIDE - PADDING + at / WIDTH;
    const bool is_there = from_x >= 0 && from_x < SIZE * INPUTS && from_y >= 0 && from_y < SIZE;
    copy_async(window + at, source + (is_there ? (image * SIZE + from_y) * (SIZE * INPUTS) + from_x : 0), is_there);
  }
  await_copies();
  __syncthreads();
  const int y = first_y + row, x = first_x + run * RUN;
  if (row >= ROWS || y >= OUT) return;
  constexpr int at_once = UNROLL; /* a pragma knows no macros */
  const float *from = window + row * STRIDE * WIDTH + run * RUN * STRIDE * INPUTS;
  const float *tap = taps + group * VALUES;
#pragma unroll at_once
  for (int ky = 0; ky < KERNEL; ++ky) {
#pragma unroll
    for (int kx = 0; kx < KERNEL * INPUTS; ++kx) {
      float weight[VALUES];
#pragma unroll
      for (int v = 0; v < VALUES; v += 4) unpack(*(const float4 *)(tap + kx * OUTPUTS + v), weight + v);
#pragma unroll
      for (int pixel = 0; pixel < RUN; ++pixel) {
        const float value = from[pixel * STRIDE * INPUTS + kx];
#pragma unroll
        for (int v = 0; v < VALUES; ++v) total[pixel][v] += value * weight[v];
      }
    }
    from += WIDTH;
    tap += KERNEL * INPUTS * OUTPUTS;
  }
#pragma unroll
  for (int pixel = 0; pixel < RUN; ++pixel) {
    if (x + pixel >= OUT) break;
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] = activated(total[pixel][v]);
    store(output + ((image * OUT + y) * OUT + x + pixel) * GROUPS + group, total[pixel]);
  }
"""


def emit(spec: KernelSpec, tile: ImageTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    names = ["const float *source", "const float4 *weights", *["const float4 *bias"] * spec.bias, "VECTOR *output"]
    defines = vector_defines(spec) | {
        "GROUPS": cut.groups,
        "RUN": tile.run,
        "ACROSS": tile.across,
        "ROWS": tile.rows,
        "COLUMNS": cut.columns,
        "IN_ROWS": cut.in_rows,
        "WIDTH": cut.width,
        "TILES_X": cut.tiles_x,
        "KERNEL": spec.kernel_size,
        "STRIDE": spec.stride,
        "PADDING": f"({spec.padding})",
        "SIZE": spec.in_size,
        "OUT": spec.out_size,
        "INPUTS": spec.in_channels,
        "OUTPUTS": spec.out_channels,
        "UNROLL": spec.kernel_size if spec.kernel_size <= 3 else 1,
        "BIAS": int(spec.bias),
    }
    return function(spec, cut.launch, names, defines, BODY)


def _pack(spec: KernelSpec, tile: ImageTile, constants: list[Array]) -> list[Array]:
    """All as they are, in float32."""
    return [np.ascontiguousarray(array, np.float32) for array in constants]


def _accepts(spec: KernelSpec) -> bool:
    if not (spec.reads_image and is_float(spec) and spec.groups == 1 and spec.in_channels <= MAX_INPUTS):
        return False
    is_plain = not (spec.residual or spec.scaled or spec.pooled)
    return is_plain and spec.out_channels % values_of(spec) == 0 and _tap_bytes(spec) <= MAX_TAPS


def _suits(spec: KernelSpec, tile: ImageTile) -> bool:
    out = spec.out_size
    is_covered = tile.run <= MAX_RUN and (tile.across - 1) * tile.run < out and tile.rows <= out
    if not is_covered:
        return False
    cut = _Cut(spec, tile)
    fits = cut.shared_bytes <= MAX_SHARED_BYTES and cut.registers * cut.launch.threads <= REGISTER_FILE
    return fits and cut.launch.threads <= MAX_THREADS and spec.batch <= MAX_GRID


def _expected_us(spec: KernelSpec, tile: ImageTile, gpu: GpuModel) -> float:
    cut, k, values = _Cut(spec, tile), spec.kernel_size, values_of(spec)
    launch = cut.launch
    blocks = gpu.waves(launch.grid[0] * launch.grid[1])
    read = cut.shared_bytes / gpu.l2_bytes
    traffic = read + tile.rows * cut.columns * cut.groups * VECTOR_BYTES / gpu.l2_bytes
    copies = (cut.in_rows * cut.width + _tap_bytes(spec) / VECTOR_BYTES) / launch.threads
    step = values / 4 + tile.run * (1 + values)
    work = k * k * spec.in_channels * step + tile.run * (2 * values + 8) + 12 * copies
    reads = blocks * launch.threads / WARP * k * k * spec.in_channels * (values / 4 + 2 * tile.run)
    trips = rounds(gpu, launch, cut.registers, cut.shared_bytes) * (gpu.l2_cycles + BARRIER_CYCLES)
    return gpu.us(PROLOGUE_CYCLES + trips + read + max((blocks - 1) * traffic, busy_cycles(gpu, launch, work), reads))


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, ImageTile]]:
    for run in (1, 2, 4):
        for across in sorted({1, 2, 4, 7, 8, 14, 16, 28, -(-spec.out_size // run)}):
            for rows in (1, 2, 4, 8):
                tile = ImageTile(run, across, rows)
                if _suits(spec, tile):
                    yield _expected_us(spec, tile, gpu), tile


IMAGE = CudaTemplate(
    ImageTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    _pack,
    suits=_suits,
)
