"""From a KernelSpec to the TensorIR that TVM tunes: one function per kernel, one block per step.

==================  =============================================================================
kernel              blocks, in order (those in brackets only when the spec asks for them)
==================  =============================================================================
conv                [scaled] [padded] conv output
depthwise           [padded] conv output
dense               conv output
pool                sum output
squeeze_excite      sum mean reduce hidden expand output
==================  =============================================================================

Every reduction (conv, sum, reduce, expand) has the loops batch, y, x, channel and its own, and an element-wise block
behind it that can finish its register tile. ``output`` adds bias and residual and applies the activation.
Arguments: input, [scales], weights each followed by its bias, [residual], output. A float16 kernel reads and writes
float16 and computes in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ofa_tvm.compiler.tvm_api.names import IRModule, structural_hash, te, tirx
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import Activation
from ofa_tvm.support.dtype import DType

Tensor = Any
Expr = Any

LAYOUT_FREE = "layout_free_buffers"


def wide(value: Expr) -> Expr:
    """A number from memory, in the type that is computed with."""
    return value if value.dtype == "float32" else value.astype("float32")


def narrow(spec: KernelSpec, value: Expr) -> Expr:
    """A computed number, in the type that memory holds."""
    return value if spec.dtype == "float32" else value.astype(spec.dtype)


def activate(value: Expr, activation: Activation) -> Expr:
    """The activation of one element."""
    match activation:
        case "none":
            return value
        case "relu":
            return tirx.max(value, tirx.const(0, "float32"))
        case "relu6":
            return tirx.min(tirx.max(value, tirx.const(0, "float32")), tirx.const(6, "float32"))
        case "hard_swish":
            return value * hard_sigmoid(value)
        case "hard_sigmoid":
            return hard_sigmoid(value)


def hard_sigmoid(value: Expr) -> Expr:
    """``clip(value + 3, 0, 6) / 6`` of one element."""
    shifted = tirx.max(value + tirx.const(3, "float32"), tirx.const(0, "float32"))
    return tirx.min(shifted, tirx.const(6, "float32")) * tirx.const(1 / 6, "float32")


def _pad(spec: KernelSpec, input_map: Tensor) -> Tensor:
    pad, size = spec.padding, spec.in_size
    if spec.kernel_size == 1:
        return input_map
    padded = size + pad + spec.kernel_size // 2

    def element(n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        inside = tirx.all(y >= pad, y < size + pad, x >= pad, x < size + pad)
        return tirx.if_then_else(inside, input_map[n, y - pad, x - pad, c], tirx.const(0, spec.dtype))

    return te.compute((spec.batch, padded, padded, spec.in_channels), element, name="padded")


def _conv(
    spec: KernelSpec, input_map: Tensor, scales: Tensor | None, weights: list[Tensor], residual: Tensor | None
) -> Tensor:
    inputs = input_map
    if scales is not None:
        inputs = te.compute(
            spec.input_shape,
            lambda n, y, x, c: narrow(spec, wide(input_map[n, y, x, c]) * wide(scales[n, 0, 0, c])),
            name="scaled",
        )
    padded, weight, stride = _pad(spec, inputs), weights[0], spec.stride
    ky = te.reduce_axis((0, spec.kernel_size), name="ky")
    kx = te.reduce_axis((0, spec.kernel_size), name="kx")
    rc = te.reduce_axis((0, spec.in_channels), name="rc")

    def depthwise(n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        return te.sum(wide(padded[n, y * stride + ky, x * stride + kx, c]) * wide(weight[ky, kx, c]), axis=[ky, kx])

    def full(n: Expr, y: Expr, x: Expr, c: Expr) -> Expr:
        element = wide(padded[n, y * stride + ky, x * stride + kx, rc])
        return te.sum(element * wide(weight[ky, kx, rc, c]), axis=[ky, kx, rc])

    total = te.compute(spec.output_shape, depthwise if spec.kind == "depthwise" else full, name="conv")

    def finish(*index: Expr) -> Expr:
        value = total[index]
        if spec.bias:
            value = value + wide(weights[1][index[-1]])
        if residual is not None:
            value = value + wide(residual[index])
        return narrow(spec, activate(value, spec.activation))

    return te.compute(spec.output_shape, finish, name="output")


def _mean(
    spec: KernelSpec, input_map: Tensor, name: str, finish: Callable[[Expr], Expr] = lambda value: value
) -> Tensor:
    ky = te.reduce_axis((0, spec.in_size), name="ky")
    kx = te.reduce_axis((0, spec.in_size), name="kx")
    shape = (spec.batch, 1, 1, spec.in_channels)
    total = te.compute(
        shape, lambda n, y, x, c: te.sum(wide(input_map[n, y + ky, x + kx, c]), axis=[ky, kx]), name="sum"
    )
    pixel = tirx.const(1 / spec.in_size**2, "float32")
    return te.compute(shape, lambda *index: finish(total[index] * pixel), name=name)


def _matvec(spec: KernelSpec, input_map: Tensor, weight: Tensor, name: str) -> Tensor:
    """(batch, 1, 1, in) times (in, out), shape (batch, 1, 1, out)."""
    inputs, outputs = (int(extent) for extent in weight.shape)
    rc = te.reduce_axis((0, inputs), name="rc")
    return te.compute(
        (spec.batch, 1, 1, outputs),
        lambda n, y, x, c: te.sum(wide(input_map[n, y, x, rc]) * wide(weight[rc, c]), axis=[rc]),
        name=name,
    )


def _squeeze_excite(spec: KernelSpec, input_map: Tensor, weights: list[Tensor]) -> Tensor:
    reduce_weight, reduce_bias, expand_weight, expand_bias = weights
    reduced = _matvec(spec, _mean(spec, input_map, "mean"), reduce_weight, "reduce")
    hidden = te.compute(
        reduced.shape, lambda *index: activate(reduced[index] + wide(reduce_bias[index[-1]]), "relu"), "hidden"
    )
    expanded = _matvec(spec, hidden, expand_weight, "expand")

    def element(*index: Expr) -> Expr:
        return narrow(spec, hard_sigmoid(expanded[index] + wide(expand_bias[index[-1]])))

    return te.compute(spec.output_shape, element, name="output")


def _dense(spec: KernelSpec, input_map: Tensor, weights: list[Tensor]) -> Tensor:
    total = _matvec(spec, input_map, weights[0], "conv")

    def element(n: Expr, c: Expr) -> Expr:
        value = total[n, 0, 0, c]
        return narrow(spec, activate(value + wide(weights[1][c]) if spec.bias else value, spec.activation))

    return te.compute(spec.output_shape, element, name="output")


def _result(
    spec: KernelSpec, input_map: Tensor, scales: Tensor | None, weights: list[Tensor], residual: Tensor | None
) -> Tensor:
    match spec.kind:
        case "conv" | "depthwise":
            return _conv(spec, input_map, scales, weights, residual)
        case "dense":
            return _dense(spec, input_map, weights)
        case "squeeze_excite":
            return _squeeze_excite(spec, input_map, weights)
        case "pool":
            return _mean(spec, input_map, "output", lambda value: narrow(spec, value))


def kernel_function(spec: KernelSpec) -> Any:
    """The unscheduled ``PrimFunc`` of a kernel.

    Weight matrices are marked layout-free, so a schedule may repack them.
    """
    input_map = te.placeholder(spec.input_shape, spec.dtype, name="source")
    scales = te.placeholder((spec.batch, 1, 1, spec.in_channels), spec.dtype, name="scales") if spec.scaled else None
    weights = [te.placeholder(shape, spec.dtype, name=f"weight{i}") for i, shape in enumerate(spec.weight_shapes)]
    residual = te.placeholder(spec.output_shape, spec.dtype, name="residual") if spec.residual else None
    output = _result(spec, input_map, scales, weights, residual)
    arguments = [input_map, scales, *weights, residual, output]
    function = te.create_prim_func([argument for argument in arguments if argument is not None])
    first_weight = spec.data_inputs
    matrices = [first_weight + i for i, shape in enumerate(spec.weight_shapes) if len(shape) > 1]
    return function.with_attr(LAYOUT_FREE, matrices) if matrices else function


def cast_function(shape: tuple[int, ...], to: DType) -> Any:
    """The ``PrimFunc`` between float32 and float16: what comes into a network, and what leaves it."""
    input_map = te.placeholder(shape, "float32" if to == "float16" else "float16", name="source")
    output = te.compute(shape, lambda *index: input_map[index].astype(to), name="output")
    return te.create_prim_func([input_map, output])


def kernel_workload(spec: KernelSpec) -> IRModule:
    """The MetaSchedule workload of a kernel, equal to what TVM extracts from every subnet that contains it."""
    return IRModule({"main": kernel_function(spec)})


def workload_hash(workload: IRModule) -> int:
    """Structural hash of a workload; equal workloads have equal hashes in every process."""
    return int(structural_hash(workload))
