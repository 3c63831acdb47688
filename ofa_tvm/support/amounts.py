"""Amounts with bounds, unit and kind: no figure without how it was obtained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
KINDS = ("metered", "measured", "estimated", "published", "assumed")
"""How a figure came about, from the best to the weakest."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity, its bounds, and the kinds of what it was computed from (some of ``KINDS``).

    ``unit`` is plain, "Wh" or "g"; ``text`` chooses a prefix.
    """

    value: float
    low: float
    high: float
    unit: str
    kinds: tuple[str, ...]

    def times(self, factor: float, *kinds: str, unit: str | None = None) -> Amount:
        """Multiplied by a figure of these kinds."""
        return Amount(
            self.value * factor, self.low * factor, self.high * factor, unit or self.unit, merged(self.kinds, kinds)
        )

    @property
    def kind(self) -> str:
        """The kinds, for a person."""
        return ", ".join(self.kinds) or "nothing counted"

    @property
    def text(self) -> str:
        """With a prefix that a person reads easily, and its bounds where there are any."""
        scale, prefix = _prefix(self.value or self.high)
        middle, low, high = (digits(number / scale) for number in (self.value, self.low, self.high))
        bounds = "" if low == high else f" ({low}-{high})"
        return f"{middle} {prefix}{self.unit}{bounds}"

    def record(self) -> dict[str, object]:
        """As a JSON object."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "kinds": list(self.kinds),
            "text": self.text,
        }


def merged(*kinds: Iterable[str]) -> tuple[str, ...]:
    """All of these kinds once, the best first."""
    found = {kind for some in kinds for kind in some}
    return tuple(kind for kind in KINDS if kind in found)


def added(amounts: Iterable[Amount], unit: str) -> Amount:
    """The sum of amounts of one unit; bounds add up, too, as if all erred the same way."""
    amounts = list(amounts)
    return Amount(
        sum(one.value for one in amounts),
        sum(one.low for one in amounts),
        sum(one.high for one in amounts),
        unit,
        merged(*(one.kinds for one in amounts)),
    )


def averaged(amounts: Iterable[Amount]) -> Amount:
    """The mean of one or more amounts, between the least and the greatest bound of any."""
    amounts = list(amounts)
    total = added(amounts, amounts[0].unit)
    return Amount(
        total.value / len(amounts),
        min(one.low for one in amounts),
        max(one.high for one in amounts),
        total.unit,
        total.kinds,
    )


def digits(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{number:.3g}'):.12g}"


def size(count: float) -> str:
    """Of bytes, three digits: ``4.85 MB``."""
    scale, prefix = _prefix(count)
    number = f"{count:.0f}" if scale <= 1 else f"{count / scale:#.3g}".rstrip(".")
    return f"{number} {f'{prefix}B' if scale > 1 else 'bytes'}"


def _prefix(number: float) -> tuple[float, str]:
    for scale, prefix in PREFIXES:
        if abs(number) >= 0.9995 * scale:
            return scale, prefix
    return (1.0, "") if not number else PREFIXES[-1]
