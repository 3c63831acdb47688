"""Activations by the names of ONNX's operators, and of those that ``rewrites`` puts in."""

from __future__ import annotations

import math

from ofa_tvm.adoption.operators import Operator, refused
from ofa_tvm.graph.network import Activation

ACTIVATIONS: dict[str, Activation] = {
    "Relu": "relu",
    "Relu6": "relu6",
    "HardSwish": "hard_swish",
    "HardSigmoid": "hard_sigmoid",
    "Silu": "silu",
    "Swish": "silu",
    "Sigmoid": "sigmoid",
    "Gelu": "gelu",
}


def is_near(found: float | None, expected: float) -> bool:
    """Whether a constant is the expected one, as exporters round it."""
    return found is not None and math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6)


def check_activation(operator: Operator) -> None:
    """Refuse an activation whose constants are not ours.

    Raises:
        UserError: it has others.
    """
    alpha, beta = operator.attributes.get("alpha", 0.2), operator.attributes.get("beta", 0.5)
    if operator.kind == "HardSigmoid" and not (is_near(alpha, 1 / 6) and is_near(beta, 0.5)):
        raise refused(operator, f"alpha {alpha:g} and beta {beta:g}", "alpha 1/6 and beta 1/2 are taken")
    if operator.kind == "Gelu" and operator.attributes.get("approximate", "none") != "none":
        raise refused(operator, "it is the approximation by tanh", "export the exact GELU")
    if operator.kind == "Swish" and not is_near(operator.attributes.get("alpha", 1.0), 1):
        raise refused(operator, "its alpha is not 1", "use SiLU")
