"""Dense layers: a vector for each image times a matrix, as in squeeze-excite and at the end of a network.

The lanes of a warp, or some of them, share a sum. They ask for their weights before they wait for the kernel before
this one; the inputs go through shared memory. Weights are packed in the order in which a warp reads them.
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
    VECTOR_BYTES,
    busy_cycles,
    conversions,
    is_power_of_two,
    padded,
    rounds,
    values_of,
    vector_defines,
)
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_INPUTS = 8_192
MAX_WARPS = 16
MAX_OUTPUTS = 8
MAX_STEPS = 96
"""Reads of a lane for a sum: all are unrolled."""
EARLY_READS = 16
"""Reads of weights that a thread asks for before it waits; each takes four registers."""


@dataclass(frozen=True)
class DenseTile:
    """What a block of threads computes.

    Args:
        lanes: of a warp that share a sum, a power of two.
        outputs: sums of a lane.
        warps: of a block.
        images: of a block, one after the other with the same weights.
    """

    lanes: int
    outputs: int
    warps: int
    images: int


@dataclass(frozen=True)
class _Cut:
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: DenseTile

    @cached_property
    def steps(self) -> int:
        """Reads of weights that a lane needs for a sum."""
        return -(-self.spec.in_channels // (self.tile.lanes * values_of(self.spec)))

    @cached_property
    def depth(self) -> int:
        """Inputs with the zeros behind them."""
        return self.steps * self.tile.lanes * values_of(self.spec)

    @cached_property
    def early(self) -> int:
        return max(1, min(self.steps, EARLY_READS // self.tile.outputs))

    @cached_property
    def sums_of_warp(self) -> int:
        """Sums of a warp for each output of a lane."""
        return WARP // self.tile.lanes

    @cached_property
    def blocks(self) -> int:
        return -(-self.spec.out_channels // (self.tile.warps * self.tile.outputs * self.sums_of_warp))

    @cached_property
    def launch(self) -> Launch:
        return Launch((self.blocks, -(-self.spec.batch // self.tile.images), 1), self.tile.warps * WARP)

    @cached_property
    def shared_bytes(self) -> int:
        return 4 * self.tile.images * self.depth

    @cached_property
    def registers(self) -> int:
        """About so many of a thread."""
        return 40 + self.tile.outputs * (4 * self.early + 5) + 2 * values_of(self.spec)


BODY = r"""
  SHARED(inputs, IMAGES * DEPTH);
  const int lane = threadIdx.x % 32, part = lane % LANES;
  const int warp = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, first_image = blockIdx.y * IMAGES;
  const int first_output = warp * (OUTPUTS * SUMS) + lane / LANES;
  const VECTOR *const panel = weights + (size_t)warp * (OUTPUTS * STEPS * 32) + lane;
  VECTOR early[OUTPUTS][EARLY];
  float offset[OUTPUTS];
#pragma unroll
  for (int one = 0; one < OUTPUTS; ++one) {
#pragma unroll
    for (int step = 0; step < EARLY; ++step) early[one][step] = __ldg(panel + (one * STEPS + step) * 32);
#if BIAS
    offset[one] = __ldg(bias + first_output + one * SUMS);
#else
    offset[one] = 0.f;
#endif
  }
  let_next_start();
  wait_for_inputs();
#if SCALED
  for (int at = threadIdx.x; at < IMAGES * DEPTH; at += THREADS) {
    const int image = first_image + at / DEPTH, input = at % DEPTH, place = image * INPUTS + input;
    const bool is_there = image < BATCH && input < INPUTS;
    inputs[at] = is_there ? read_map(source + place) * read_map(scales + place) : 0.f;
  }
#else
  for (int at = threadIdx.x * PIECE; at < IMAGES * DEPTH; at += THREADS * PIECE) {
    const int image = first_image + at / DEPTH, input = at % DEPTH;
    const bool is_there = image < BATCH && input < INPUTS;
    copy_async(inputs + at, (const PIECE_TYPE *)(source + (is_there ? image * INPUTS + input : 0)), is_there);
  }
  await_copies();
#endif
  __syncthreads();
#pragma unroll 1
  for (int image = 0; image < IMAGES && first_image + image < BATCH; ++image) {
    const float *const from = inputs + image * DEPTH + part * 4;
    float sum[OUTPUTS][4];
#pragma unroll
    for (int one = 0; one < OUTPUTS; ++one) sum[one][0] = sum[one][1] = sum[one][2] = sum[one][3] = 0.f;
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      float input[VALUES];
#pragma unroll
      for (int v = 0; v < VALUES; v += 4) unpack(*(const float4 *)(from + (step * VALUES + v) * LANES), input + v);
#pragma unroll
      for (int one = 0; one < OUTPUTS; ++one) {
        float weight[VALUES];
        unpack(step < EARLY ? early[one][step < EARLY ? step : 0] : __ldg(panel + (one * STEPS + step) * 32), weight);
#pragma unroll
        for (int v = 0; v < VALUES; ++v) sum[one][v % 4] += input[v] * weight[v];
      }
    }
#pragma unroll
    for (int one = 0; one < OUTPUTS; ++one) {
      float total = sum[one][0] + sum[one][1] + (sum[one][2] + sum[one][3]);
#pragma unroll
      for (int mask = LANES / 2; mask > 0; mask /= 2) total += from_lane_xor(total, mask);
      const int output_channel = first_output + one * SUMS;
      if (part > 0 || output_channel >= OUT) continue;
      const int place = (first_image + image) * OUT + output_channel;
#if RESIDUAL
      total += read_map(residual + place);
#endif
      output[place] = activated(total + offset[one]);
    }
  }
"""


def emit(spec: KernelSpec, tile: DenseTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    names = ["const float *source", *["const float *scales"] * spec.scaled, "const VECTOR *weights"]
    names += [*["const float *bias"] * spec.bias, *["const float *residual"] * spec.residual, "float *output"]
    is_whole = spec.in_channels % 4 == 0
    defines = vector_defines(spec) | {
        "LANES": tile.lanes,
        "SUMS": cut.sums_of_warp,
        "OUTPUTS": tile.outputs,
        "IMAGES": tile.images,
        "STEPS": cut.steps,
        "EARLY": cut.early,
        "DEPTH": cut.depth,
        "INPUTS": spec.in_channels,
        "OUT": spec.out_channels,
        "BATCH": spec.batch,
        "SCALED": int(spec.scaled),
        "BIAS": int(spec.bias),
        "RESIDUAL": int(spec.residual),
        "PIECE": 4 if is_whole else 1,
        "PIECE_TYPE": "float4" if is_whole else "float",
    }
    return function(spec, cut.launch, names, defines, BODY)


def _pack(spec: KernelSpec, tile: DenseTile, constants: list[Array]) -> list[Array]:
    """Weights by warp, output of a lane, step, lane; the bias as float32."""
    cut, lanes, halves = _Cut(spec, tile), tile.lanes, values_of(spec) // 4
    weight, *bias = constants
    warps = cut.blocks * tile.warps
    wide = warps * tile.outputs * cut.sums_of_warp
    rows = padded(weight.T, wide, cut.depth)
    parts = rows.reshape(warps, tile.outputs, cut.sums_of_warp, cut.steps, halves, lanes, 4)
    packed = parts.transpose(0, 1, 3, 2, 5, 4, 6).astype(spec.dtype)
    return [np.ascontiguousarray(packed), *(padded(one, wide) for one in bias)]


def _accepts(spec: KernelSpec) -> bool:
    # A residual of a float16 network is a map, which is no vector of float32.
    is_plain = spec.kind == "dense" and is_float(spec) and not (spec.residual and spec.dtype == "float16")
    return is_plain and spec.in_size == 1 and spec.in_channels <= MAX_INPUTS


def _suits(spec: KernelSpec, tile: DenseTile) -> bool:
    is_small = tile.lanes <= WARP and tile.outputs <= MAX_OUTPUTS and tile.warps <= MAX_WARPS
    if not is_small or not is_power_of_two(tile.lanes) or tile.images > spec.batch:
        return False
    cut = _Cut(spec, tile)
    return cut.shared_bytes <= MAX_SHARED_BYTES and cut.launch.grid[1] <= MAX_GRID and cut.steps <= MAX_STEPS


def _expected_us(spec: KernelSpec, tile: DenseTile, gpu: GpuModel) -> float:
    cut, values = _Cut(spec, tile), values_of(spec)
    launch = cut.launch
    blocks = gpu.waves(launch.grid[0] * launch.grid[1])
    read = launch.threads * tile.outputs * cut.steps * VECTOR_BYTES + cut.shared_bytes
    traffic = blocks * read / gpu.l2_bytes
    step = values / 4 + tile.outputs * (values + conversions(spec))
    halvings = tile.lanes.bit_length() - 1
    image = cut.steps * step + tile.outputs * (3 * halvings + 10)
    copies = 10 * tile.images * cut.depth / 4 / launch.threads
    late = -(-(cut.steps - cut.early) * tile.outputs // EARLY_READS) * tile.images
    trips = rounds(gpu, launch, cut.registers, cut.shared_bytes) * (gpu.l2_cycles + BARRIER_CYCLES)
    busy = max(traffic, busy_cycles(gpu, launch, tile.images * image + copies))
    return gpu.us(PROLOGUE_CYCLES + trips + late * gpu.l2_cycles + busy + 30 * halvings)


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, DenseTile]]:
    for lanes in (1, 2, 4, 8, 16, 32):
        for outputs in (1, 2, 4):
            for warps in (1, 2, 4, 8):
                for images in (1, 2, 4, 8):
                    tile = DenseTile(lanes, outputs, warps, images)
                    if _suits(spec, tile):
                        yield _expected_us(spec, tile, gpu), tile


DENSE = CudaTemplate(
    DenseTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    _pack,
    suits=_suits,
)
