"""What a kernel and a network compute, in plain numpy: tuned code is checked against this.

``layer_...`` is for kernels that are one layer, whose code TVM schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

from ofa_tvm.graph.bfloat16 import narrowed, rounded, widened
from ofa_tvm.graph.int8_reference import int8_compute, random_int8_inputs
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.mixed import network_steps
from ofa_tvm.graph.network import INPUT, Activation, NetworkSpec
from ofa_tvm.graph.quantisation import step_constants
from ofa_tvm.graph.weights import Weights
from ofa_tvm.graph.windows import depthwise, full_window, window_pool

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
    if spec.dtype == "int8":
        return random_int8_inputs(spec, seed)
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape, np.float32) for shape in input_shapes(spec)]
    arrays = [array / np.sqrt(np.float32(array[..., 0].size)) if array.ndim > 1 else array for array in arrays]
    return arrays if spec.dtype == "float32" else _typed(spec, arrays)


def _typed(spec: KernelSpec, inputs: list[Array]) -> list[Array]:
    """A kernel's inputs as it reads them: rounded to float16, or the bits of bfloat16."""
    types = [
        spec.input_type.dtype,
        *["float32"] * spec.scaled,
        *(weight.dtype for weight in spec.weight_types),
        *[spec.result_type] * spec.residual,
    ]
    pairs = zip(inputs, types, strict=True)
    return [narrowed(array) if dtype == "uint16" else array.astype(dtype) for array, dtype in pairs]


def repeating_inputs(spec: KernelSpec, period: int) -> list[Array]:
    """``random_inputs`` whose numbers repeat, so that they compress well in whatever order a kernel packs them.

    Args:
        spec: the kernel.
        period: numbers after which they repeat; rows of an int8 kernel's vectors, each of its own range, each do so.
    """
    return [_repeating(array, period, spec.dtype == "int8") for array in random_inputs(spec)]


def _repeating(array: Array, period: int, is_int8: bool) -> Array:
    rows = array if is_int8 and array.dtype == np.float32 and array.ndim == 2 else array.reshape(1, -1)
    return np.stack([np.resize(row[:period], row.size) for row in rows]).reshape(array.shape)


def compute(spec: KernelSpec, inputs: Sequence[Array]) -> list[Array]:
    """A kernel's outputs in ``KernelSpec.output_shapes``: [map], [sums]; of float16 in float32, without its roundings.

    Raises:
        ValueError: the kernel's kind has no such form.
    """
    if spec.dtype == "int8":
        return int8_compute(spec, inputs)
    if spec.dtype == "bfloat16":
        return _bfloat16_compute(spec, inputs)
    input_map, *rest = map(widened, inputs)
    if spec.scaled:
        input_map, rest = input_map * rest[0][:, None, None, :], rest[1:]
    residual = rest.pop() if spec.residual else None
    match spec.kind:
        case "conv":
            total = full_window(spec, input_map, rest[0])
        case "depthwise":
            total = depthwise(spec, input_map, rest[0])
        case "expand_depthwise":
            half = len(rest) // 2
            expanded = _finish(input_map @ rest[0], rest[1:half], None, spec.activation)
            total, rest = depthwise(spec, expanded, rest[half]), rest[half:]
        case "dense":
            total = input_map.reshape(spec.batch, -1) @ rest[0]
        case "max_pool" | "average_pool":
            total = window_pool(spec, input_map)
        case "pool":
            total = input_map.sum((1, 2), keepdims=True)
        case _:
            raise ValueError(f"{spec.key}: on CPUs there is no float kernel of this kind")
    result = _finish(total, rest[1:], residual, spec.activation)
    sums = [result.sum((1, 2))] if spec.pooled else []
    return [result, *sums] if spec.has_map else sums


def _bfloat16_compute(spec: KernelSpec, inputs: Sequence[Array]) -> list[Array]:
    """A bfloat16 kernel's outputs: float32 arithmetic on what it reads, rounded where it writes bfloat16.

    What products multiply is bfloat16, too: scaled inputs, a dense kernel's vector and an expanded map are rounded
    first. Kernels add in another order and take denormal numbers for zero, so that a rounding may turn out otherwise:
    an output by a step (``bfloat16.beyond_steps``), an expanded map in single numbers.
    """
    source, *rest = map(widened, inputs)
    if spec.scaled:
        source, rest = source * rest[0][:, None, None, :], rest[1:]
    if spec.has_product:
        source = rounded(source)
    if spec.kind == "expand_depthwise":
        half = len(rest) // 2
        expand = replace(spec, kind="conv", kernel_size=1, stride=1, pooled=False, shifted=False, valid=False)
        source, rest = widened(_bfloat16_compute(expand, [source, *rest[:half]])[0]), rest[half:]
        spec = replace(spec, kind="depthwise", in_channels=spec.out_channels)
    exact = compute(replace(spec, dtype="float32", scaled=False), [source, *rest])
    pairs = zip(exact, spec.output_types, strict=True)
    return [narrowed(output) if kind.dtype == "uint16" else output for output, kind in pairs]


def _finish(total: Array, bias: Sequence[Array], residual: Array | None, activation: Activation) -> Array:
    if bias:
        total = total + bias[0]
    if residual is not None:
        total = total + residual
    return ACTIVATIONS[activation](total)


def _hard_sigmoid(values: Array) -> Array:
    return np.clip(values / 6 + np.float32(0.5), 0, 1)


def _gelu(values: Array) -> Array:
    gate: Array = (erf(values * np.float32(0.5**0.5)) + 1) / 2
    return values * gate


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "none": lambda values: values,
    "relu": lambda values: np.maximum(values, 0),
    "relu6": lambda values: np.clip(values, 0, 6),
    "hard_swish": lambda values: values * _hard_sigmoid(values),
    "hard_sigmoid": _hard_sigmoid,
    "silu": lambda values: values * expit(values),
    "sigmoid": expit,
    "gelu": _gelu,
}
"""What each activation makes of an array."""


def layer_input_shapes(spec: KernelSpec) -> list[tuple[int, ...]]:
    """Shapes of the arguments that ``compiler.scheduled.kernel_tir`` reads, in order."""
    scales = [(spec.batch, 1, 1, spec.in_channels)] if spec.scaled else []
    residual = [spec.output_shape] if spec.residual else []
    return [spec.input_shape, *scales, *spec.weight_shapes, *residual]


def layer_compute(spec: KernelSpec, inputs: Sequence[Array]) -> Array:
    """The output for inputs of ``layer_input_shapes``."""
    input_map, *rest = inputs
    if spec.kind == "pool":
        means: Array = input_map.mean((1, 2), keepdims=True, dtype=np.float32)
        return means
    if spec.kind == "squeeze_excite":
        reduce_weight, reduce_bias, expand_weight, expand_bias = rest
        hidden = np.maximum(input_map.mean((1, 2), dtype=np.float32) @ reduce_weight + reduce_bias, 0)
        gates: Array = np.clip((hidden @ expand_weight + expand_bias) / 6 + np.float32(0.5), 0, 1)
        return gates.reshape(spec.output_shape)
    if spec.scaled:
        rest[0] = rest[0].reshape(spec.batch, spec.in_channels)
    (output,) = compute(spec, [input_map, *rest])
    return output


def network_logits(network: NetworkSpec, weights: Weights, images: Array) -> Array:
    """Logits (batch, classes) of normalised images (batch, resolution, resolution, channels).

    With the weights of an int8 or bfloat16 network (``cpu_dtype_of``), also of one with some layers in float32, these
    are the logits of its kernels.
    """
    return np.concatenate([_logits(network, weights, image[None]) for image in images])


def _logits(network: NetworkSpec, weights: Weights, image: Array) -> Array:
    values = {INPUT: image}
    for step in network_steps(network, weights):
        data = [values[name] for name in step.reads]
        data[0] = data[0].reshape(step.kernel.input_shape)
        last = step.kernel.data_inputs
        outputs = compute(step.kernel, [*data[:last], *step_constants(step, weights), *data[last:]])
        values |= dict(zip(step.writes, outputs, strict=True))
    return values[network.layers[-1].name].reshape(1, -1)
