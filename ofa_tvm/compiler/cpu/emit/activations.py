"""What activations make of a vector: those of a few instructions in its own type, the rest in float32."""

from __future__ import annotations

from collections.abc import Callable

from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Expr, constant, keep, number, number_of, spread, typed
from ofa_tvm.compiler.tvm_api.names import tirx
from ofa_tvm.graph.network import Activation


def hard_sigmoid(value: Expr, lanes: int) -> Expr:
    """``clip(value / 6 + 1/2, 0, 1)``, one multiply-add."""
    own = number_of(value)
    sixth, half = constant(1 / 6, lanes, own), constant(0.5, lanes, own)
    return tirx.max(tirx.min(value * sixth + half, constant(1.0, lanes, own)), constant(0.0, lanes, own))


LARGEST_EXPONENT = 87.0
"""Beyond it e to that power, or one over it, is no normal float32."""
EXPONENTIAL = (1.0, 1.0, 0.49999994, 0.16666667, 0.041669, 0.00833333)
"""Of e to the x about 0."""


def exponential(value: Expr, lanes: int) -> Expr:
    """E to the power of each lane: 2 to the nearest whole number, times a polynomial of what is left."""
    bounded = tirx.max(tirx.min(value, constant(LARGEST_EXPONENT, lanes)), constant(-LARGEST_EXPONENT, lanes))
    powers = keep(tirx.round(bounded * constant(1.4426950408889634, lanes)))
    # ln 2 in two parts, the first of few bits, so that its product is exact.
    rest = keep(bounded - powers * constant(0.693359375, lanes) + powers * constant(2.12194440e-4, lanes))
    total = constant(EXPONENTIAL[-1], lanes)
    for factor in reversed(EXPONENTIAL[:-1]):
        total = total * rest + constant(factor, lanes)
    form = "" if lanes == 1 else f"x{lanes}"
    bits = (tirx.Cast(f"int32{form}", powers) + spread(number(127), lanes)) << spread(number(23), lanes)
    return total * tirx.reinterpret(f"{FLOAT}{form}", bits)


def sigmoid(value: Expr, lanes: int) -> Expr:
    """``1 / (1 + exp(-value))``."""
    return constant(1.0, lanes) / (constant(1.0, lanes) + exponential(constant(0.0, lanes) - value, lanes))


ERF_SLOPE = 0.3275911
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def normal_distribution(value: Expr, lanes: int) -> Expr:
    """``(1 + erf(value / sqrt(2))) / 2``, by Abramowitz and Stegun's 7.1.26 (error at most 1.5e-7)."""
    size = keep(tirx.max(value, constant(0.0, lanes) - value) * constant(0.5**0.5, lanes))
    slope = keep(constant(1.0, lanes) / (constant(1.0, lanes) + constant(ERF_SLOPE, lanes) * size))
    total = constant(ERF[-1], lanes)
    for factor in reversed(ERF[:-1]):
        total = total * slope + constant(factor, lanes)
    tail = keep(total * slope * exponential(constant(0.0, lanes) - size * size, lanes) * constant(0.5, lanes))
    return tirx.Select(value > constant(0.0, lanes), constant(1.0, lanes) - tail, tail)


def activated(value: Expr, activation: Activation, lanes: int) -> Expr:
    """The activation of a vector."""
    return ACTIVATIONS[activation](value, lanes)


def _in_float32(function: Callable[[Expr, int], Expr]) -> Callable[[Expr, int], Expr]:
    """An activation that computes in float32 whatever it is given."""

    def computed(value: Expr, lanes: int) -> Expr:
        return typed(function(typed(value, FLOAT, lanes), lanes), number_of(value), lanes)

    return computed


def _gated(gate: Callable[[Expr, int], Expr]) -> Callable[[Expr, int], Expr]:
    """A vector times what a function of it gives."""

    def product(value: Expr, lanes: int) -> Expr:
        held = keep(value)
        return held * gate(held, lanes)

    return product


def _relu(value: Expr, lanes: int) -> Expr:
    return tirx.max(value, constant(0.0, lanes, number_of(value)))


ACTIVATIONS: dict[Activation, Callable[[Expr, int], Expr]] = {
    "none": lambda value, lanes: value,
    "relu": _relu,
    "relu6": lambda value, lanes: tirx.min(_relu(value, lanes), constant(6.0, lanes, number_of(value))),
    "hard_swish": lambda value, lanes: value * hard_sigmoid(value, lanes),
    "hard_sigmoid": hard_sigmoid,
    "silu": _in_float32(_gated(sigmoid)),
    "sigmoid": _in_float32(sigmoid),
    "gelu": _in_float32(_gated(normal_distribution)),
}
