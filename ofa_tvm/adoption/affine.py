"""Batch norms, factors and terms by channel behind a layer, as one factor and one term."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Affine:
    """``factor * x + term`` by channel; None where there is none."""

    factor: Array | None = None
    term: Array | None = None

    def then(self, other: Affine) -> Affine:
        """Both, this one first."""
        factor = _product(self.factor, other.factor)
        term = _product(self.term, other.factor) if self.term is not None else None
        if other.term is not None:
            term = other.term if term is None else term + other.term
        return Affine(factor, term)

    def folded(self, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
        """The weight (out, ...) and bias of a layer with it."""
        if self.factor is not None:
            weight = weight * self.factor.reshape(-1, *[1] * (weight.ndim - 1))
        return weight, Affine(term=bias).then(self).term


def _product(first: Array | None, second: Array | None) -> Array | None:
    if first is None or second is None:
        return second if first is None else first
    return first * second


def affine_behind(graph: OperatorGraph, output: str) -> tuple[Affine, str, list[Operator]]:
    """What follows a tensor as its only reader, one after the other: all in one, what they give, and who they are."""
    affine, taken = Affine(), list[Operator]()
    while True:
        reader = graph.only_reader(output)
        following = None if reader is None else _affine(graph, reader, output)
        if reader is None or following is None:
            return affine, output, taken
        affine, output = affine.then(following), reader.output
        taken.append(reader)


def _affine(graph: OperatorGraph, operator: Operator, source: str) -> Affine | None:
    if operator.kind == "BatchNormalization":
        return _norm(graph, operator)
    if operator.kind not in ("Mul", "Add", "Sub", "Div"):
        return None
    _, constant = graph.operands(operator)
    if constant is None or (operator.inputs[0] == constant and operator.kind in ("Sub", "Div")):
        return None
    shape = graph.shapes.get(source, ())
    array = np.asarray(graph.constants[constant], np.float32)
    by_channel = (1,) * (len(shape) - array.ndim) + array.shape
    if len(shape) < 2 or len(by_channel) > len(shape):
        return None
    if any(size != 1 for axis, size in enumerate(by_channel) if axis != 1):
        return None
    values: Array = np.broadcast_to(array.reshape(-1), (shape[1],))
    forms = {
        "Mul": lambda: Affine(values),
        "Div": lambda: Affine(np.reciprocal(values)),
        "Add": lambda: Affine(term=values),
        "Sub": lambda: Affine(term=-values),
    }
    return forms[operator.kind]()


def _norm(graph: OperatorGraph, operator: Operator) -> Affine:
    if operator.attributes.get("training_mode", 0):
        raise refused(operator, "it is in training mode", "export the model for inference")
    gamma, beta, mean, variance = (graph.weight(operator, index).astype(np.float64) for index in range(1, 5))
    factor = gamma / np.sqrt(variance + operator.attributes.get("epsilon", 1e-5))
    return Affine(factor.astype(np.float32), (beta - mean * factor).astype(np.float32))
