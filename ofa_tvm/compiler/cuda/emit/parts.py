"""What several templates share: vectors of 16 bytes, sums over a block's threads, and how busy a multiprocessor is."""

from __future__ import annotations

from math import prod

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.template import WARP, Array, Launch
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.dtype import DTYPE_BYTES

VECTOR_BYTES = 16
PROLOGUE_CYCLES = 250
"""From a kernel's first instruction to its first read."""
BARRIER_CYCLES = 40
REGISTER_FILE = 65_536
THREADS_OF_MULTIPROCESSOR = 2_048
SHARED_OF_MULTIPROCESSOR = 160 << 10
MAX_GRID = 65_535
"""Thread blocks along y and z."""


def values_of(spec: KernelSpec) -> int:
    """Numbers of a map in 16 bytes."""
    return VECTOR_BYTES // DTYPE_BYTES[spec.dtype]


def vector_defines(spec: KernelSpec) -> dict[str, object]:
    """``VALUES`` numbers of a map are a ``VECTOR``."""
    return {"VALUES": values_of(spec), "VECTOR": "uint4" if spec.dtype == "float16" else "float4"}


def conversions(spec: KernelSpec) -> int:
    """Instructions that make float32 of a vector."""
    return values_of(spec) if spec.dtype == "float16" else 0


def whole_warps(threads: int) -> int:
    """The next multiple of a warp."""
    return -(-threads // WARP) * WARP


def is_power_of_two(number: int) -> bool:
    """Whether a positive number is one."""
    return number & (number - 1) == 0


def padded(array: Array, *sizes: int) -> Array:
    """An array with zeros behind it along each axis, up to these sizes, as float32."""
    result = np.zeros(sizes, np.float32)
    result[tuple(slice(extent) for extent in array.shape)] = array
    return result


def rounds(gpu: GpuModel, launch: Launch, registers: int, shared_bytes: int) -> int:
    """How often the busiest multiprocessor is filled anew, because its blocks do not fit all at once."""
    resident = min(
        THREADS_OF_MULTIPROCESSOR // launch.threads,
        REGISTER_FILE // (launch.threads * registers),
        SHARED_OF_MULTIPROCESSOR // max(shared_bytes, 1),
    )
    return -(-gpu.waves(prod(launch.grid)) // max(resident, 1))


def busy_cycles(gpu: GpuModel, launch: Launch, instructions: float) -> float:
    """Cycles in which the busiest multiprocessor issues so many instructions of each thread."""
    warps = gpu.waves(prod(launch.grid)) * launch.threads / WARP
    return instructions * max(1.0, warps * WARP / gpu.fma_lanes)


BLOCK_SUMS = r"""
  SHARED(partial, THREADS / 32 * CHANNELS);
#pragma unroll
  for (int mask = GROUPS; mask < 32; mask *= 2)
#pragma unroll
    for (int v = 0; v < VALUES; ++v) added[v] += from_lane_xor(added[v], mask);
  if (threadIdx.x % 32 < GROUPS)
#pragma unroll
    for (int v = 0; v < VALUES; v += 4)
      store((float4 *)(partial + threadIdx.x / 32 * CHANNELS + group * VALUES + v), added + v);
  __syncthreads();
#pragma unroll 1
  for (int channel = threadIdx.x; channel < CHANNELS; channel += THREADS) {
    float sum = 0.f;
#pragma unroll
    for (int warp = 0; warp < THREADS / 32; ++warp) sum += partial[warp * CHANNELS + channel];
    TAKE_SUM
  }
"""
"""Adds up what a block's threads hold in ``added[VALUES]``, always in the same order. A thread's ``group`` of channels
is its number modulo ``GROUPS``, a power of two; ``TAKE_SUM`` gets a ``channel`` of ``CHANNELS`` and its ``sum``."""


def block_sums(take_sum: str) -> str:
    """``BLOCK_SUMS`` with a statement for each channel's sum."""
    return BLOCK_SUMS.replace("TAKE_SUM", take_sum)
