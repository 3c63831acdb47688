"""The largest value, or the mean, of the windows of a map: a thread has 16 bytes of channels of a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import (
    PROLOGUE_CYCLES,
    VECTOR_BYTES,
    busy_cycles,
    conversions,
    rounds,
    values_of,
    vector_defines,
)
from ofa_tvm.compiler.cuda.emit.template import WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_KERNEL = 9
MAX_THREADS = 512


@dataclass(frozen=True)
class WindowPoolTile:
    """What a block of threads computes.

    Args:
        threads: of a block.
    """

    threads: int


BODY = r"""
  const int at = blockIdx.x * THREADS + threadIdx.x, group = at % ALL_GROUPS, pixel = at / ALL_GROUPS;
  const int image = pixel / (OUT * OUT);
  const int first_y = pixel / OUT % OUT * STRIDE - PADDING, first_x = pixel % OUT * STRIDE - PADDING;
  float total[VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; ++v) total[v] = LEAST;
  let_next_start();
  wait_for_inputs();
  if (image >= BATCH) return;
  constexpr int at_once = UNROLL; /* a pragma knows no macros */
#pragma unroll at_once
  for (int ky = 0; ky < KERNEL; ++ky) {
    const int y = first_y + ky;
    if (y < 0 || y >= SIZE) continue;
    VECTOR held[KERNEL];
#pragma unroll
    for (int kx = 0; kx < KERNEL; ++kx) {
      const int x = first_x + kx < 0 ? 0 : first_x + kx < SIZE ? first_x + kx : SIZE - 1;
      held[kx] = read_map(source + ((image * SIZE + y) * SIZE + x) * ALL_GROUPS + group);
    }
#pragma unroll
    for (int kx = 0; kx < KERNEL; ++kx) {
      if (first_x + kx < 0 || first_x + kx >= SIZE) continue;
      float value[VALUES];
      unpack(held[kx], value);
#pragma unroll
      for (int v = 0; v < VALUES; ++v) total[v] = IS_LARGEST ? fmaxf(total[v], value[v]) : total[v] + value[v];
    }
  }
#pragma unroll
  for (int v = 0; v < VALUES; ++v) total[v] = activated(IS_LARGEST ? total[v] : total[v] * (1.f / (KERNEL * KERNEL)));
  store(output + at, total);
"""


def emit(spec: KernelSpec, tile: WindowPoolTile) -> str:
    """CUDA C."""
    is_largest = spec.kind == "max_pool"
    defines = vector_defines(spec) | {
        "ALL_GROUPS": spec.in_channels // values_of(spec),
        "BATCH": spec.batch,
        "SIZE": spec.in_size,
        "OUT": spec.out_size,
        "KERNEL": spec.kernel_size,
        "STRIDE": spec.stride,
        "PADDING": f"({spec.padding})",
        "UNROLL": spec.kernel_size if spec.kernel_size <= 3 else 1,
        "IS_LARGEST": int(is_largest),
        "LEAST": "-3.4e38f" if is_largest else "0.f",
    }
    names = ["const VECTOR *source", "VECTOR *output"]
    return function(spec, _launch(spec, tile), names, defines, BODY)


def _vectors(spec: KernelSpec) -> int:
    return prod(spec.output_shape) // values_of(spec)


def _launch(spec: KernelSpec, tile: WindowPoolTile) -> Launch:
    return Launch((-(-_vectors(spec) // tile.threads), 1, 1), tile.threads)


def _pack(spec: KernelSpec, tile: WindowPoolTile, constants: list[Array]) -> list[Array]:
    return constants


def _accepts(spec: KernelSpec) -> bool:
    is_window = spec.kind in ("max_pool", "average_pool") and spec.kernel_size <= MAX_KERNEL
    is_plain = not (spec.residual or spec.scaled or spec.pooled)
    return is_window and is_plain and is_float(spec) and spec.in_channels % values_of(spec) == 0


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, WindowPoolTile]]:
    k, values = spec.kernel_size, values_of(spec)
    reads = k if k > 3 else 1  # trips to memory
    work = k * k * (8 + values + conversions(spec)) + 40
    moved = (spec.activation_bytes + VECTOR_BYTES * _vectors(spec) * k * k / 4) / gpu.multiprocessors / gpu.l2_bytes
    for threads in (64, 128, 256):
        launch = _launch(spec, WindowPoolTile(threads))
        trips = rounds(gpu, launch, 40 + 4 * k * k, 0) * reads * gpu.l2_cycles
        yield gpu.us(PROLOGUE_CYCLES + trips + max(moved, busy_cycles(gpu, launch, work))), WindowPoolTile(threads)


WINDOW_POOL = CudaTemplate(
    WindowPoolTile,
    _accepts,
    _tiles,
    emit,
    _launch,
    _pack,
    suits=lambda spec, tile: tile.threads % WARP == 0 and tile.threads <= MAX_THREADS,
)
