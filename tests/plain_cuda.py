"""A CUDA template that computes every kind of kernel in the plainest way: a thread makes a channel of an image.

It stands for the templates where what runs them is tested: it asks for scratch memory and clusters, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.template import Array, CudaTemplate, Launch, function
from ofa_tvm.graph.kernel import KernelSpec

KINDS = ("conv", "depthwise", "dense", "pool")
BODY = r"""
  wait_for_inputs();
  const int all = gridDim.x * gridDim.z * THREADS;
  for (int unit = (blockIdx.z * gridDim.x + blockIdx.x) * THREADS + threadIdx.x; unit < BATCH * OUT; unit += all) {
    const int image = unit / OUT, channel = unit % OUT;
    float summed = 0.f;
    for (int y = 0; y < OUT_SIZE; ++y)
      for (int x = 0; x < OUT_SIZE; ++x) {
        float sum = OWN;
        for (int ky = 0; ky < WINDOW; ++ky)
          for (int kx = 0; kx < WINDOW; ++kx) {
            const int row = y * STRIDE + ky - PADDING, column = x * STRIDE + kx - PADDING;
            if (row < 0 || row >= IN_SIZE || column < 0 || column >= IN_SIZE) continue;
            for (int i = 0; i < DEPTH; ++i) {
              const int from = DEPTH == 1 ? channel : i;
              const int pixel = (image * IN_SIZE + row) * IN_SIZE + column;
              sum += read_map(source + pixel * IN + from) * SCALE * WEIGHT;
            }
          }
        const int place = ((image * OUT_SIZE + y) * OUT_SIZE + x) * OUT + channel;
        const float value = activated(sum + RESIDUAL);
        summed += value;
        WRITE_MAP;
      }
    WRITE_SUMS;
  }
  let_next_start();
"""


@dataclass(frozen=True)
class PlainTile:
    threads: int
    cluster: int


def _tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, PlainTile]]:
    yield 1.0, PlainTile(8, 2 if gpu.has_clusters and spec.kind == "dense" else 1)


def _launch(spec: KernelSpec, tile: PlainTile) -> Launch:
    return Launch((2, 1, tile.cluster), tile.threads, tile.cluster)


def _pack(spec: KernelSpec, tile: PlainTile, constants: list[Array]) -> list[Array]:
    return [array.astype(np.float32 if array.ndim == 1 else spec.dtype) for array in constants]


def _emit(spec: KernelSpec, tile: PlainTile) -> str:
    types = {"float32": "float", "float16": "half_bits_t"}
    summed = spec.kind == "pool"
    names = [f"const {types[spec.input_type.dtype]} *source"]
    names += ["const float *scales"] * spec.scaled
    names += [f"const {types[spec.dtype]} *weights"] * bool(spec.weight_shapes)
    names += ["const float *bias"] * spec.bias
    names += [f"const {types[spec.dtype]} *residual"] * spec.residual
    names += [f"{types[spec.output_types[0].dtype]} *map"] * spec.has_map
    names += ["float *sums"] * spec.pooled
    names += ["float *scratch"] * (spec.kind == "dense")
    window = spec.in_size if summed else spec.kernel_size
    depth = 1 if spec.kind in ("depthwise", "pool") else spec.in_channels
    defines: dict[str, object] = {
        "BATCH": spec.batch,
        "IN": spec.in_channels,
        "OUT": spec.out_channels,
        "IN_SIZE": spec.in_size,
        "OUT_SIZE": spec.out_size,
        "WINDOW": window,
        "STRIDE": spec.stride,
        "PADDING": 0 if summed else spec.padding,
        "DEPTH": depth,
        "SCALE": "read_map(scales + image * IN + from)" if spec.scaled else "1.f",
        "WEIGHT": "1.f" if summed else "read_map(weights + ((ky * WINDOW + kx) * DEPTH + i) * OUT + channel)",
        # Scratch memory holds zeros.
        "OWN": " + ".join(["bias[channel]" if spec.bias else "0.f", *["scratch[1]"] * (spec.kind == "dense")]),
        "RESIDUAL": "read_map(residual + place)" if spec.residual else "0.f",
        "WRITE_MAP": "write_map(map + place, value)" if spec.has_map else "(void)place",
        "WRITE_SUMS": "write_map(sums + unit, summed)" if spec.pooled else "(void)summed",
    }
    return function(spec, _launch(spec, tile), names, defines, BODY)


PLAIN = CudaTemplate(
    tile=PlainTile,
    accepts=lambda spec: (spec.dtype == "float32" or spec.float_vectors) and spec.kind in KINDS and spec.groups == 1,
    tiles=_tiles,
    emit=_emit,
    launch=_launch,
    pack=_pack,
    scratch=lambda spec, tile: 8 if spec.kind == "dense" else 0,
)
