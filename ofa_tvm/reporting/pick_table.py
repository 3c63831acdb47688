"""The picks as tables: predicted and verified values, and the windows behind the latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ofa_tvm.reporting import units
from ofa_tvm.reporting.offers import Offer, Series
from ofa_tvm.reporting.parts import Cell, Column, Table

COMPARED = (
    Column("pick"),
    Column("target", is_text=True),
    Column("budget", "ms"),
    Column("predicted", "ms"),
    Column("interval from", "ms"),
    Column("to", "ms"),
    Column("{}", "ms"),
    Column("prediction off by"),
    Column("predicted top-1"),
    Column("validation top-1"),
    Column("expected top-1", note="validated and predicted accuracy together; picks are chosen by it"),
    Column("test top-1"),
    Column("MACs"),
    Column("parameters"),
    Column("subnet", is_text=True),
)
WINDOWS = (
    Column("pick"),
    Column("target", is_text=True),
    Column("told", "ms"),
    Column("fastest window", "ms"),
    Column("slowest window", "ms"),
    Column("p90", "ms"),
    Column("p99", "ms"),
    Column("windows that count"),
    Column("of"),
    Column("calls"),
    Column("left out"),
    Column("calibration", "ms"),
    Column("at best", "ms"),
    Column("until", is_text=True),
)


def compared_table(offers: Sequence[Offer], has_several_series: bool) -> Table:
    """Predicted beside verified values."""
    verified = offers[0].provenance
    columns = [replace(column, label=column.label.format(verified)) for column in COMPARED]
    rows = [(offer.series, _compared(offer)) for offer in offers]
    return _table("picks", f"Predicted and {verified}; latency of one call", columns, rows, has_several_series)


def windows_table(offers: Sequence[Offer], has_several_series: bool) -> Table:
    """What stands behind each measured latency."""
    caption = "Windows of single calls, seconds apart; the median window is told, the slowest must hold the budget"
    rows = [(offer.series, _windows(offer)) for offer in offers if offer.timing is not None]
    return _table("windows", caption, WINDOWS, rows, has_several_series)


def _table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[Series, tuple[Cell, ...]]],
    has_several_series: bool,
) -> Table:
    kept = [number for number, column in enumerate(columns) if has_several_series or column.label != "target"]
    shown = tuple(tuple(row[number] for number in kept) for _, row in rows)
    what = rows[0][0].what
    named = tuple(replace(one, label=what) if one.label == "target" else one for one in columns)
    return Table(name, caption, tuple(named[number] for number in kept), shown)


def _ends(low: float | None, high: float | None) -> tuple[Cell, ...]:
    if low is None or high is None:
        return Cell(units.UNKNOWN), Cell(units.UNKNOWN)
    return tuple(Cell(text, value) for text, value in zip(units.ends(low, high), (low, high), strict=True))


def _number(offer: Offer) -> Cell:
    return Cell(offer.name if offer.number is None else str(offer.number), offer.number)


def _compared(offer: Offer) -> tuple[Cell, ...]:
    known, predicted, latency_ms = offer.accuracies, offer.predicted, offer.latency_ms
    middle, low, high = (predicted.middle_ms, predicted.low_ms, predicted.high_ms) if predicted else (None,) * 3
    off = middle / latency_ms - 1 if middle and latency_ms else None
    return (
        _number(offer),
        Cell(offer.series.label),
        *(Cell(units.digits(value), value) for value in (offer.budget_ms, middle)),
        *_ends(low, high),
        Cell(units.digits(latency_ms), latency_ms),
        Cell(units.signed_percent(off), off),
        Cell(units.percent(known.predicted), known.predicted),
        Cell(units.with_error(known.validation, known.validation_error), known.validation),
        Cell(units.percent(known.expected), known.expected),
        Cell(units.with_error(known.test, known.test_error), known.test),
        Cell(units.count(offer.macs), offer.macs),
        Cell(units.count(offer.parameters), offer.parameters),
        Cell(offer.subnet, is_code=True),
    )


def _windows(offer: Offer) -> tuple[Cell, ...]:
    timing, which = offer.timing, offer.percentile
    assert timing is not None
    low, high = timing.spread_ms(which)
    told_ms = timing.told_ms(which)
    calls, left_out = (sum(getattr(one, name) for one in timing.windows) for name in ("calls", "left_out"))
    return (
        _number(offer),
        Cell(offer.series.label),
        Cell(units.digits(told_ms), told_ms),
        *_ends(low, high),
        *(Cell(units.digits(value), value) for value in (timing.told_ms(90), timing.told_ms(99))),
        *(Cell(f"{value:,}", value) for value in (len(timing.undisturbed), len(timing.windows), calls, left_out)),
        *(Cell(units.digits(value), value) for value in (timing.calibration_ms, timing.usual_calibration_ms)),
        Cell(timing.measured_at.replace("T", " ").replace("+00:00", "")),
    )
