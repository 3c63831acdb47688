"""What a kernel that is one layer computes, in numpy: code that TVM schedules is checked against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import Array, compute


def layer_input_shapes(spec: KernelSpec) -> list[tuple[int, ...]]:
    """Shapes of the arguments that ``compiler.kernel_tir`` reads, in order."""
    scales = [(spec.batch, 1, 1, spec.in_channels)] if spec.scaled else []
    residual = [spec.output_shape] if spec.residual else []
    return [spec.input_shape, *scales, *spec.weight_shapes, *residual]


def layer_compute(spec: KernelSpec, inputs: Sequence[Array]) -> Array:
    """The output of inputs of ``layer_input_shapes``."""
    source, *rest = inputs
    if spec.kind == "pool":
        means: Array = source.mean((1, 2), keepdims=True, dtype=np.float32)
        return means
    if spec.kind == "squeeze_excite":
        reduce_weight, reduce_bias, expand_weight, expand_bias = rest
        hidden = np.maximum(source.mean((1, 2), dtype=np.float32) @ reduce_weight + reduce_bias, 0)
        gates: Array = np.clip((hidden @ expand_weight + expand_bias) / 6 + np.float32(0.5), 0, 1)
        return gates.reshape(spec.output_shape)
    if spec.scaled:
        rest[0] = rest[0].reshape(spec.batch, spec.in_channels)
    (output,) = compute(spec, [source, *rest])
    return output
