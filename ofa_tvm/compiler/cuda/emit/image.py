"""The convolution of an image: few channels in, some more out, with a window; see ``window``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import VECTOR_BYTES, values_of
from ofa_tvm.compiler.cuda.emit.template import CudaTemplate, function
from ofa_tvm.compiler.cuda.emit.window import COPIED, END, START, WindowCut, WindowTile, window_tiles
from ofa_tvm.graph.kernel import KernelSpec

MAX_INPUTS = 4
MAX_KERNEL = 11


@dataclass(frozen=True)
class _Cut(WindowCut):
    @property
    def taps(self) -> int:
        return self.spec.kernel_size**2 * self.spec.in_channels

    @property
    def width(self) -> int:
        """Numbers in a row of shared memory."""
        return self.in_columns * self.spec.in_channels

    @property
    def window_floats(self) -> int:
        return -(-self.in_rows * self.width // 4) * 4

    @property
    def registers(self) -> int:
        """Sums, weights, addresses."""
        return 40 + (self.tile.run + 3) * values_of(self.spec)


COPY = r"""
  for (int at = threadIdx.x; at < IN_ROWS * WIDTH; at += THREADS) {
    const int from_x = (first_x * STRIDE - PADDING) * INPUTS + at % WIDTH;
    const int from_y = first_y * STRIDE - PADDING + at / WIDTH;
    const bool is_there = from_x >= 0 && from_x < SIZE * INPUTS && from_y >= 0 && from_y < SIZE;
    copy_async(window + at, source + (is_there ? (image * SIZE + from_y) * (SIZE * INPUTS) + from_x : 0), is_there);
  }
"""

PRODUCTS = r"""
  if (is_own) {
    const float *from = window + row * STRIDE * WIDTH + run * RUN * STRIDE * INPUTS;
    const float *tap = taps + group * VALUES;
#pragma unroll at_once
    for (int ky = 0; ky < KERNEL; ++ky) {
#pragma unroll
      for (int kx = 0; kx < KERNEL * INPUTS; ++kx) {
        float weight[VALUES];
#pragma unroll
        for (int v = 0; v < VALUES; v += 4) unpack(*(const float4 *)(tap + kx * CHANNELS + v), weight + v);
#pragma unroll
        for (int pixel = 0; pixel < RUN; ++pixel) {
          const float value = from[pixel * STRIDE * INPUTS + kx];
#pragma unroll
          for (int v = 0; v < VALUES; ++v) total[pixel][v] += value * weight[v];
        }
      }
      from += WIDTH;
      tap += KERNEL * INPUTS * CHANNELS;
    }
  }
"""


def emit(spec: KernelSpec, tile: WindowTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    names = ["const float *source", "const float4 *weights", *["const float4 *bias"] * spec.bias]
    names += [*["const VECTOR *residual"] * spec.residual, "VECTOR *output"]
    defines = cut.defines() | {"WIDTH": cut.width, "INPUTS": spec.in_channels}
    return function(spec, cut.launch, names, defines, START + COPY + COPIED + PRODUCTS + END)


def _accepts(spec: KernelSpec) -> bool:
    """Maps are written in either type; images are float32."""
    is_image = spec.dtype == "float32" or (spec.dtype == "float16" and spec.image and spec.float_vectors)
    is_plain = spec.kind == "conv" and spec.groups == 1 and not (spec.scaled or spec.pooled)
    is_small = spec.in_channels <= MAX_INPUTS and spec.kernel_size <= MAX_KERNEL
    return is_image and is_plain and is_small and spec.out_channels % values_of(spec) == 0


def _expected_us(cut: _Cut, gpu: GpuModel) -> float:
    tile, values = cut.tile, values_of(cut.spec)
    copies = (cut.in_rows * cut.width + cut.taps * cut.channels * 4 / VECTOR_BYTES) / cut.launch.threads
    work = cut.taps * (values / 4 + tile.run * (1 + values)) + tile.run * (2 * values + 8) + 12 * copies
    return cut.expected_us(gpu, cut.shared_bytes, work, cut.taps * (values / 4 + 2 * tile.run))


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, WindowTile]]:
    vectors = spec.out_channels // values_of(spec)
    for tile in window_tiles(spec, (vectors, *(one for one in (1, 2, 4, 8, 16) if one < vectors))):
        if (cut := _Cut(spec, tile)).is_possible:
            yield _expected_us(cut, gpu), tile


IMAGE = CudaTemplate(
    WindowTile,
    _accepts,
    _tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    lambda spec, tile, constants: _Cut(spec, tile).pack(constants),
    suits=lambda spec, tile: _Cut(spec, tile).is_possible,
)
