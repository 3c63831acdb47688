"""An interval in words."""

from __future__ import annotations

LEAST_WIDTH = 1e-4
"""Share of the value below which an interval is rounding, not doubt: estimates are fitted exactly."""


def interval_text(low_ms: float | None, high_ms: float | None) -> str:
    """The ends of an interval in ms; a dash where there is none, or where it has no width."""
    if low_ms is None or high_ms is None or high_ms - low_ms <= LEAST_WIDTH * high_ms:
        return "-"
    digits = next((digits for digits in (3, 4, 5) if f"{low_ms:.{digits}f}" != f"{high_ms:.{digits}f}"), 6)
    return f"{low_ms:.{digits}f}-{high_ms:.{digits}f}"
