"""Geometry of the scatter chart: from values to positions and round ticks; the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ofa_tvm.nas.result import FrontPoint, Pick

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
TICKS = 6


@dataclass(frozen=True)
class Axis:
    """A linear axis over ``low`` to ``high`` that lies between two positions in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Position of a value in pixels."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    @property
    def step(self) -> float:
        """Distance of the ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, label) of each tick."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [(self(number * self.step), f"{number * self.step:.{decimals}f}") for number in range(first, last + 1)]


def _axis(values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Axis:
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return Axis(low - room, high + room, start, end)


@dataclass(frozen=True)
class Scatter:
    """Latency in ms to the right, top-1 accuracy in percent upwards."""

    x: Axis
    y: Axis
    front: tuple[tuple[float, float], ...]
    picks: tuple[Pick, ...]
    budgets_ms: tuple[float, ...]
    beyond_ms: tuple[float, ...]
    """Budgets too far from everything else to be drawn."""


def top1_shown(pick: Pick) -> float | None:
    """The accuracy at which a pick is drawn, as a fraction: validated, or else predicted."""
    return pick.predicted_top1 if pick.validation_top1 is None else pick.validation_top1


def scatter(front: Sequence[FrontPoint], picks: Sequence[Pick], budgets_ms: Sequence[float]) -> Scatter | None:
    """Axes that hold everything but budgets far away; None when there is nothing to draw."""
    drawn = tuple(pick for pick in picks if top1_shown(pick) is not None)
    if not front and not drawn:
        return None
    latencies = [point.predicted_ms for point in front]
    for pick in drawn:
        latencies += [pick.predicted_low_ms, pick.predicted_high_ms, pick.predicted_ms]
        latencies += [] if pick.verified_ms is None else [pick.verified_ms]
    top1 = [100 * point.predicted_top1 for point in front]
    top1 += [100 * (top1_shown(pick) or 0.0) for pick in drawn]
    reach = max(latencies) - min(latencies) or max(latencies)
    near = [budget_ms for budget_ms in budgets_ms if min(latencies) - reach <= budget_ms <= max(latencies) + reach]
    x = _axis([*latencies, *near], LEFT, WIDTH - RIGHT)
    y = _axis(top1, HEIGHT - BOTTOM, TOP)
    ordered = sorted(front, key=lambda point: point.predicted_ms)
    line = tuple((x(point.predicted_ms), y(100 * point.predicted_top1)) for point in ordered)
    beyond = tuple(budget_ms for budget_ms in budgets_ms if budget_ms not in near)
    return Scatter(x, y, line, drawn, tuple(near), beyond)
