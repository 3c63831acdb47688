"""Squeeze-excite in the operators of exporters, as one: ``SqueezeExcite`` of the map and two dense layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.adoption.activations import ACTIVATIONS, check_activation
from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused
from ofa_tvm.graph.network import Activation

VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
UNPADDED = ("NOTSET", "VALID")
GATES = ("sigmoid", "hard_sigmoid")
Array = NDArray[np.float32]


def squeeze_excite(graph: OperatorGraph, operator: Operator) -> bool:
    """``x * gate(dense(activation(dense(mean(x)))))``."""
    if operator.kind != "Mul":
        return False
    for source, gated in (operator.inputs, operator.inputs[::-1]):
        shape = graph.shapes.get(source, ())
        if len(shape) != 4 or graph.shapes.get(gated) != (*shape[:2], 1, 1):
            continue
        chain = _chain_to_mean(graph, gated, source)
        if chain is not None:
            _take_squeeze_excite(graph, chain, source, operator)
            return True
    return False


def _chain_to_mean(graph: OperatorGraph, gated: str, source: str) -> list[Operator] | None:
    """The operators from the mean of a map to its gate, the mean first; None where it is something else."""
    chain: list[Operator] = []
    name = gated
    while True:
        operator = graph.producer(name)
        if operator is None or graph.only_reader(name) is None:
            return None
        chain.insert(0, operator)
        if is_global_mean(graph, operator):
            return chain if operator.inputs[0] == source else None
        if operator.kind not in (*VIEWS, *ACTIVATIONS, "Conv", "Gemm", "MatMul", "Add"):
            return None
        name = graph.operands(operator)[0] if operator.kind == "Add" else operator.inputs[0]


def mean_axes(graph: OperatorGraph, operator: Operator) -> list[int]:
    """Axes of what a ``ReduceMean`` reads that it takes the mean of, in order; none where they are not constant."""
    axes, rank = operator.attributes.get("axes"), len(graph.shapes.get(operator.inputs[0], ()))
    if axes is None and len(operator.inputs) > 1 and operator.inputs[1] in graph.constants:
        axes = graph.constants[operator.inputs[1]].tolist()
    return sorted(axis % rank for axis in axes or ()) if rank else []


def is_global_mean(graph: OperatorGraph, operator: Operator) -> bool:
    """Whether an operator gives the mean of a map by channel."""
    if operator.kind == "GlobalAveragePool":
        return True
    shape = graph.shapes.get(operator.inputs[0], ())
    if operator.kind == "ReduceMean" and len(shape) == 4:
        return mean_axes(graph, operator) == [2, 3]
    if operator.kind == "AveragePool" and len(shape) == 4:
        is_whole = tuple(operator.attributes.get("kernel_shape", ())) == shape[2:]
        is_plain = operator.attributes.get("auto_pad", "NOTSET") in UNPADDED
        return is_whole and is_plain and not any(operator.attributes.get("pads", ()))
    return False


def _take_squeeze_excite(graph: OperatorGraph, chain: list[Operator], source: str, product: Operator) -> None:
    dense: list[list[Array]] = []
    activations: list[list[Activation]] = []
    trouble = refused(
        product,
        "it scales a map by something else than squeeze-excite",
        "mean, dense layer, activation, dense layer and sigmoid or hard sigmoid are taken",
    )
    for operator in chain[1:]:
        if operator.kind in ("Conv", "Gemm", "MatMul"):
            weight, bias = matrix(graph, operator)
            dense.append([weight, np.zeros(len(weight), np.float32) if bias is None else bias])
            activations.append([])
        elif operator.kind == "Add":
            term = graph.constants.get(graph.operands(operator)[1] or "")
            if term is None or not dense or activations[-1] or term.size != len(dense[-1][0]):
                raise trouble
            dense[-1][1] = dense[-1][1] + term.reshape(-1)
        elif operator.kind in ACTIVATIONS:
            check_activation(operator)
            if not dense:
                raise trouble
            activations[-1].append(ACTIVATIONS[operator.kind])
    is_form = [len(dense), *map(len, activations)] in ([2, 0, 1], [2, 1, 1])
    if not is_form or activations[1][0] not in GATES:
        raise trouble
    names = []
    for number, arrays in enumerate(dense):
        for part, array in zip(("weight", "bias"), arrays, strict=True):
            names.append(f"{product.output}.{number}.{part}")
            graph.constants[names[-1]] = np.asarray(array, np.float32)
    hidden = activations[0][0] if activations[0] else "none"
    attributes = {"hidden_activation": hidden, "gate": activations[1][0]}
    name = product.name or chain[0].name
    graph.replace([*chain, product], Operator("SqueezeExcite", name, [source, *names], product.output, attributes))


def matrix(graph: OperatorGraph, operator: Operator) -> tuple[Array, Array | None]:
    """Weight (out, in) and bias of a dense layer, or of a 1x1 convolution.

    Raises:
        UserError: it is something else.
    """
    weight = graph.weight(operator, 1)
    bias = graph.weight(operator, 2).reshape(-1) if len(operator.inputs) > 2 and operator.inputs[2] else None
    if operator.kind == "Conv":
        if weight.shape[2:] != (1, 1) or operator.attributes.get("group", 1) != 1:
            raise refused(operator, "it has a window or groups on a single pixel", "a 1x1 convolution is taken")
        weight = weight[:, :, 0, 0]
    elif operator.kind == "MatMul" or not operator.attributes.get("transB", 0):
        weight = weight.T
    others = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if any(operator.attributes.get(name, value) != value for name, value in others.items()):
        raise refused(operator, "it has alpha, beta or transA", "fold them into its weights")
    if bias is not None and bias.size == 1:
        bias = np.full(len(weight), bias[0], np.float32)
    return np.ascontiguousarray(weight), bias
