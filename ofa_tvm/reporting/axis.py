"""Axis: from values to places of a plot, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

TICKS = 5


@dataclass(frozen=True)
class Axis:
    """A linear axis over ``low`` to ``high`` that lies between two places, in per cent of a plot or in pixels."""

    low: float
    high: float
    start: float = 0.0
    end: float = 100.0

    @classmethod
    def over(cls, values: Iterable[float], is_upwards: bool = False, margin: float = 0.06) -> Axis:
        """An axis in per cent that holds all values, with some room at both ends; upwards its start is below."""
        known = list(values)
        low, high = min(known), max(known)
        room = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
        start, end = (100.0, 0.0) if is_upwards else (0.0, 100.0)
        return cls(low - room, high + room, start, end)

    def from_zero(self) -> Axis:
        """The same axis, beginning at 0."""
        return replace(self, low=0.0)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high

    @property
    def step(self) -> float:
        """Distance of the ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """(place, label) of each tick."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return tuple(
            (self(number * self.step), f"{number * self.step:,.{decimals}f}") for number in range(first, last + 1)
        )
