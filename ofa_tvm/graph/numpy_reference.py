"""What a kernel computes, in plain numpy: tuned code is checked against this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import Activation

Array = NDArray[np.float32]


def input_shapes(spec: KernelSpec) -> list[tuple[int, ...]]:
    """Shapes of what a kernel reads, in order: source, [scales], constants, [residual]."""
    shapes: list[tuple[int, ...]] = [spec.input_shape]
    if spec.scaled:
        shapes.append((spec.batch, spec.in_channels))
    shapes += spec.weight_shapes
    if spec.residual:
        shapes.append(spec.output_shape)
    return shapes


def random_inputs(spec: KernelSpec, seed: int = 0) -> list[Array]:
    """Random arrays of ``input_shapes``; matrices are small enough to keep results in range."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape, np.float32) for shape in input_shapes(spec)]
    return [array / np.sqrt(np.float32(array[..., 0].size)) if array.ndim > 1 else array for array in arrays]


def compute(spec: KernelSpec, inputs: Sequence[Array]) -> list[Array]:
    """A kernel's outputs in ``KernelSpec.output_shapes``: [map], [sums].

    Raises:
        ValueError: the kernel's kind has no such form.
    """
    source, *rest = inputs
    if spec.scaled:
        source, rest = source * rest[0][:, None, None, :], rest[1:]
    residual = rest.pop() if spec.residual else None
    match spec.kind:
        case "conv":
            total = _window(spec, source) @ rest[0].reshape(-1, spec.out_channels)
        case "depthwise":
            total = _depthwise(spec, source, rest[0])
        case "expand_depthwise":
            half = len(rest) // 2
            expanded = _finish(source @ rest[0], rest[1:half], None, spec.activation)
            total, rest = _depthwise(spec, expanded, rest[half]), rest[half:]
        case "dense":
            total = source.reshape(spec.batch, -1) @ rest[0]
        case "pool":
            total = source.sum((1, 2), keepdims=True)
        case "squeeze_excite":
            raise ValueError(f"{spec.key}: on CPUs squeeze-excite is two dense kernels")
    result = _finish(total, rest[1:], residual, spec.activation)
    sums = [result.sum((1, 2))] if spec.pooled else []
    return [result, *sums] if spec.has_map else sums


def _finish(total: Array, bias: Sequence[Array], residual: Array | None, activation: Activation) -> Array:
    if bias:
        total = total + bias[0]
    if residual is not None:
        total = total + residual
    gate = np.clip(total / 6 + np.float32(0.5), 0, 1)
    results = {"none": total, "relu": np.maximum(total, 0), "hard_swish": total * gate, "hard_sigmoid": gate}
    return results[activation]


def _windows(spec: KernelSpec, source: Array) -> Array:
    """(batch, y, x, channels, ky, kx) view of the padded map."""
    pad, k = spec.padding, spec.kernel_size
    padded = np.pad(source, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    view: Array = sliding_window_view(padded, (k, k), axis=(1, 2))
    return view[:, :: spec.stride, :: spec.stride]


def _window(spec: KernelSpec, source: Array) -> Array:
    view = _windows(spec, source).transpose(0, 1, 2, 4, 5, 3)
    return np.ascontiguousarray(view).reshape(*view.shape[:3], -1)


def _depthwise(spec: KernelSpec, source: Array, weight: Array) -> Array:
    windows = _windows(spec, source)
    total = np.zeros(windows.shape[:4], np.float32)
    for ky in range(spec.kernel_size):
        for kx in range(spec.kernel_size):
            total += windows[..., ky, kx] * weight[ky, kx]
    return total
