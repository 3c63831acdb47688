"""Which kinds of operators can be taken; the others are named, all at once."""

from __future__ import annotations

from collections.abc import Set

from ofa_tvm.adoption.activations import ACTIVATIONS
from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused
from ofa_tvm.adoption.rewrites import NOTHING
from ofa_tvm.adoption.squeeze_excite import VIEWS
from ofa_tvm.support.errors import UserError

PROBABILITIES = ("Softmax", "LogSoftmax")
TAKEN = (
    "convolutions, batch norm, ReLU, ReLU6, hard-swish, SiLU, GELU, sigmoid, squeeze-excite, residual sums, max, "
    "average and global pooling, linear layers, a softmax at the end"
)
KINDS = {
    *ACTIVATIONS,
    *VIEWS,
    *PROBABILITIES,
    *("Conv", "Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul", "Div", "Clip", "SqueezeExcite"),
    *("GlobalAveragePool", "ReduceMean", "AveragePool", "MaxPool"),
}
INTERMEDIATE = (*NOTHING, "Cast", "Sum", "Pad", "Erf")
"""Kinds that ``rewrite`` may put others in the place of."""
INPUTS = {"Conv": 2, "Gemm": 2, "MatMul": 2, "BatchNormalization": 5, "Add": 2, "Sub": 2, "Mul": 2, "Div": 2}
"""How many each kind has at least, where that is more than one."""


def refuse_others(graph: OperatorGraph, kinds: Set[str]) -> None:
    """Name all kinds of operators that are not among some, and operators that lack inputs.

    Raises:
        UserError: there are some.
    """
    others: dict[str, list[Operator]] = {}
    for operator in graph.operators:
        if operator.kind not in kinds:
            others.setdefault(operator.kind, []).append(operator)
    if others:
        told = ", ".join(
            f"{kind} ({len(found)}, the first is '{found[0].name or found[0].output}')"
            for kind, found in others.items()
        )
        raise UserError(f"the model has operators that cannot be taken: {told}", f"taken are {TAKEN}")
    for operator in graph.operators:
        if len(operator.inputs) < INPUTS.get(operator.kind, 1):
            raise refused(operator, "it lacks inputs", "export the model again")
