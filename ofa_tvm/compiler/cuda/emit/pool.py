"""Sums of a map's channels, where no kernel before could give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import (
    MAX_GRID,
    PROLOGUE_CYCLES,
    VECTOR_BYTES,
    block_sums,
    busy_cycles,
    conversions,
    is_power_of_two,
    values_of,
    vector_defines,
)
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_THREADS = 1_024
IN_FLIGHT = 8
"""Most reads of a thread at a time."""


@dataclass(frozen=True)
class PoolTile:
    """What a block of threads computes.

    Args:
        groups: vectors of channels (16 bytes), a power of two.
        threads: those of a group share the pixels.
    """

    groups: int
    threads: int


BODY = r"""
  const int group = threadIdx.x % GROUPS, own_group = blockIdx.x * GROUPS + group, image = blockIdx.y;
  const VECTOR *const from = source + (size_t)image * (PIXELS * ALL_GROUPS) + (own_group < ALL_GROUPS ? own_group : 0);
  float added[VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; ++v) added[v] = 0.f;
  let_next_start();
  wait_for_inputs();
#pragma unroll 1
  for (int first = threadIdx.x / GROUPS; first < PIXELS; first += THREADS / GROUPS * READS) {
    VECTOR held[READS];
#pragma unroll
    for (int one = 0; one < READS; ++one) {
      const int pixel = first + one * (THREADS / GROUPS);
      held[one] = read_map(from + (pixel < PIXELS ? pixel : first) * ALL_GROUPS);
    }
#pragma unroll
    for (int one = 0; one < READS; ++one) {
      if (first + one * (THREADS / GROUPS) >= PIXELS) break;
      float value[VALUES];
      unpack(held[one], value);
#pragma unroll
      for (int v = 0; v < VALUES; ++v) added[v] += value[v];
    }
  }
"""

TAKE_SUM = r"""
    const int place = blockIdx.x * CHANNELS + channel;
    if (place < ALL_GROUPS * VALUES) sums[image * (ALL_GROUPS * VALUES) + place] = sum;
"""


def _reads(spec: KernelSpec, tile: PoolTile) -> int:
    """Pixels of a thread."""
    return -(-(spec.in_size**2) // (tile.threads // tile.groups))


def emit(spec: KernelSpec, tile: PoolTile) -> str:
    """CUDA C."""
    defines = vector_defines(spec) | {
        "GROUPS": tile.groups,
        "CHANNELS": tile.groups * values_of(spec),
        "ALL_GROUPS": spec.in_channels // values_of(spec),
        "PIXELS": spec.in_size**2,
        "READS": min(_reads(spec, tile), IN_FLIGHT),
    }
    return function(
        spec, _launch(spec, tile), ["const VECTOR *source", "float *sums"], defines, BODY + block_sums(TAKE_SUM)
    )


def _launch(spec: KernelSpec, tile: PoolTile) -> Launch:
    return Launch((-(-spec.in_channels // (tile.groups * values_of(spec))), spec.batch, 1), tile.threads)


def _pack(spec: KernelSpec, tile: PoolTile, constants: list[Array]) -> list[Array]:
    return constants


def _suits(spec: KernelSpec, tile: PoolTile) -> bool:
    is_block = is_power_of_two(tile.groups) and tile.groups <= WARP and tile.threads % WARP == 0
    fits = tile.threads // WARP * tile.groups * values_of(spec) * 4 <= MAX_SHARED_BYTES
    return is_block and fits and tile.threads <= MAX_THREADS and spec.batch <= MAX_GRID


def _expected_us(spec: KernelSpec, tile: PoolTile, gpu: GpuModel) -> float:
    launch, reads, values = _launch(spec, tile), _reads(spec, tile), values_of(spec)
    blocks = gpu.waves(launch.grid[0] * launch.grid[1])
    traffic = blocks * spec.in_size**2 * tile.groups * max(VECTOR_BYTES, 32 // tile.groups) / gpu.l2_bytes
    halvings = (WARP // tile.groups).bit_length() - 1
    work = reads * (6 + values + conversions(spec)) + 3 * halvings * values
    trips = -(-reads // IN_FLIGHT) * gpu.l2_cycles
    latency = 60 + 30 * halvings + 10 * tile.threads / WARP
    return gpu.us(PROLOGUE_CYCLES + trips + max(traffic, busy_cycles(gpu, launch, work)) + latency)


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, PoolTile]]:
    for groups in (1, 2, 4, 8, 16):
        if groups > 1 and groups // 2 * values_of(spec) >= spec.in_channels:
            break
        for threads in (32, 64, 128, 256, 512):
            yield _expected_us(spec, PoolTile(groups, threads), gpu), PoolTile(groups, threads)


POOL = CudaTemplate(
    PoolTile,
    lambda spec: spec.kind == "pool" and is_float(spec) and spec.in_channels % values_of(spec) == 0,
    _tiles,
    emit,
    _launch,
    _pack,
    suits=_suits,
)
