"""Numbers as people read them: a unit that fits, few digits, and a dash for what is not known."""

from __future__ import annotations

from collections.abc import Sequence

UNKNOWN = "–"  # noqa: RUF001
RATE = "GOP/s"
"""1e9 operations a second, of floats or integers; a multiply-add is two."""


def milliseconds(value: float | None) -> str:
    """``0.174 ms``."""
    return UNKNOWN if value is None else f"{digits(value)} ms"


def digits(value: float | None) -> str:
    """Three decimals below 10, fewer above: what timings of single calls support."""
    if value is None:
        return UNKNOWN
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def microseconds(value_ms: float | None) -> str:
    """Of milliseconds, without the unit: ``3.4``; two decimals below 1."""
    if value_ms is None:
        return UNKNOWN
    value = 1e3 * value_ms
    return f"{value:.2f}" if value < 1 else f"{value:,.1f}"


def percent(value: float | None, decimals: int = 2) -> str:
    """Of a fraction: ``91.24 %``."""
    return UNKNOWN if value is None else f"{100 * value:.{decimals}f} %"


def signed_percent(value: float | None, decimals: int = 1) -> str:
    """Of a fraction, with its sign: ``+1.2 %``."""
    return UNKNOWN if value is None else f"{100 * value:+.{decimals}f} %"


def with_error(value: float | None, error: float | None) -> str:
    """A fraction with its standard error: ``91.24 ± 0.28 %``."""
    return percent(value) if value is None or error is None else f"{100 * value:.2f} ± {100 * error:.2f} %"


def ends(low: float, high: float) -> tuple[str, str]:
    """Both ends of an interval, with as many more decimals (two at most) as tell them apart."""
    decimals = len(digits(high).partition(".")[2])
    pairs = [(f"{low:,.{count}f}", f"{high:,.{count}f}") for count in range(decimals, decimals + 3)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


def interval(low: float, high: float) -> str:
    """``0.169 to 0.181``, or ``0.0555 to 0.0559``."""
    return " to ".join(ends(low, high))


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Three significant digits in the largest unit that leaves at least 1, or else in the smallest."""
    size, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    scaled = value / size
    return f"{_short(scaled)} {unit}"


def _short(value: float) -> str:
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.1g}"


def energy(kwh: float) -> str:
    """``17.4 mWh``, ``3.20 Wh`` or ``1.25 kWh``."""
    return _scaled(1e3 * kwh, ((1e3, "kWh"), (1.0, "Wh"), (1e-3, "mWh"), (1e-6, "µWh")))


def grams(value: float) -> str:
    """``8.21 g`` or ``1.20 kg``."""
    return _scaled(value, ((1e3, "kg"), (1.0, "g"), (1e-3, "mg")))


def span(low: str, high: str) -> str:
    """Two values with their units as a range, with one unit where it is the same: ``81.0 to 324 mWh``."""
    (number, unit), (_, other) = low.rsplit(" ", 1), high.rsplit(" ", 1)
    return f"{number if unit == other else low} to {high}"


def duration(seconds: float) -> str:
    """``0.35 s``, ``45 s``, ``4 min 53 s`` or ``1 h 05 min``."""
    if seconds < 59.5:
        return f"{_short(seconds)} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60) if seconds < 3600 else divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def count(value: float) -> str:
    """``12.3 M``."""
    return _scaled(value, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))).strip()


def rate(value: float | None) -> str:
    """A rate without its unit: ``38.2``."""
    return UNKNOWN if value is None else _short(value)


def times(value: float) -> str:
    """A ratio: ``1.82x``."""
    return f"{value:.2f}x"


def plural(number: int, one: str, many: str = "") -> str:
    """``1 pick``, ``3 picks``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def titled(prefix: str, text: str) -> str:
    """A text after the name of what it is of, if there is one: ``x86: the costliest`` or ``The costliest``."""
    return f"{prefix}: {text}" if prefix else text[:1].upper() + text[1:]


def words(name: str) -> str:
    """A name from a file as words: ``kernel_set`` as ``kernel set``."""
    return name.replace("_", " ").replace("-", " ").strip()
