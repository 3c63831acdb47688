"""Tuning: how many kernels have a record, what more trials gained, and which kernels cost most."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.layer_section import kernel_text
from ofa_tvm.reporting.offers import Series
from ofa_tvm.reporting.parts import Cell, Column, Fact, Facts, Fold, Line, Mark, Note, Part, Plot, Section, Table
from ofa_tvm.tuner.tuning_facts import TuningFacts

COLUMNS = (
    Column("kernel", is_text=True, is_wide=True),
    Column("best", "µs"),
    Column("calls of a mean subnet"),
    Column("share of its time"),
    Column("rate", units.RATE),
    Column("trials"),
    Column("found by", is_text=True),
)
FOUND_BY = (
    "Found by: what proposed the winner. Template: the ranking of one template's tiles. Neighbour: the winner of a "
    "similar kernel of this log. Donor: the winner of the same kernel in another target's log. Evolution: a change of "
    "this kernel's own best. Default: what the ranking alone would choose."
)


def tuning_section(known: Sequence[tuple[Series, TuningFacts]]) -> Section | None:
    """The section; None where nothing is known, as in results of older versions."""
    if not known:
        return None
    parts: list[Part | Fold] = []
    for series, facts in known:
        prefix = series.label if len(known) > 1 else ""
        parts += [Facts(_facts(series, facts)), *_progress(facts, prefix)]
        parts.append(
            Fold(
                units.titled(prefix, "the costliest kernels"),
                (_table(series, facts), Note(FOUND_BY)),
                is_open=len(known) == 1,
            )
        )
    return Section("tuning", "Tuning", "Tuning", tuple(parts))


def _facts(series: Series, facts: TuningFacts) -> tuple[Fact, ...]:
    kernels = facts.tuned + facts.fallback
    gap = ""
    if facts.expected_gap is not None:
        gap = (
            f"by default schedule, before any trial, a typical one takes {units.percent(facts.expected_gap, 0)} longer"
        )
    return (
        Fact(series.what, series.label),
        Fact("kernels tuned", f"{facts.tuned:,} of {kernels:,}", gap),
        Fact("calls by default schedule", units.percent(facts.fallback_calls, 1), "of a mean subnet"),
        Fact("trials", f"{facts.trials:,}", f"on average {facts.trials / max(1, facts.tuned):.0f} for each kernel"),
        Fact("mean subnet", units.milliseconds(facts.mean_subnet_ms), "sum of its kernels' times"),
    )


def _progress(facts: TuningFacts, prefix: str) -> list[Part]:
    points = facts.progress
    if len(points) < 2:
        why = "the log keeps no trials to draw quality over trials from; a log that ships has none."
        return [Note(units.titled(prefix, why))]
    x = Axis.over([math.log2(point.trials) for point in points], margin=0.03)
    y = Axis.over([0.0, *(100 * (point.times_final - 1) for point in points)], is_upwards=True).from_zero()
    places = [(x(math.log2(point.trials)), y(100 * (point.times_final - 1))) for point in points]
    every = max(1, len(points) // 6)
    marks = tuple(
        Mark(*place, f"after {units.plural(point.trials, 'trial')} of each kernel: {point.times_final - 1:.1%} slower")
        for place, point in zip(places, points, strict=True)
    )
    return [
        Plot(
            name="tuning-progress",
            title=units.titled(prefix, "quality over trials"),
            description="How much slower than now a mean subnet's kernels were after so many trials of each "
            f"(those whose trials the log keeps: {units.percent(facts.progress_share, 0)} of the time).",
            x_label="trials of each kernel",
            y_label="% slower than now",
            x_ticks=tuple((x(math.log2(point.trials)), str(point.trials)) for point in points[::every]),
            y_ticks=y.ticks,
            lines=(Line(tuple(places)),),
            marks=marks,
        )
    ]


def _table(series: Series, facts: TuningFacts) -> Table:
    most = max((kernel.share for kernel in facts.kernels), default=1.0)
    rows = tuple(
        (
            Cell(kernel_text(kernel.kernel), kernel.kernel),
            Cell(units.microseconds(kernel.best_ms), 1e3 * kernel.best_ms),
            Cell(f"{kernel.calls:.2f}", kernel.calls),
            Cell(units.percent(kernel.share, 1), kernel.share, bar=kernel.share / most),
            Cell(units.rate(kernel.gflops_per_s), kernel.gflops_per_s),
            Cell(f"{kernel.trials:,}", kernel.trials),
            Cell(units.words(kernel.source) or units.UNKNOWN),
        )
        for kernel in facts.kernels
    )
    name = f"kernels-{series.label}".replace(" ", "-")
    return Table(name, f"{len(rows)} of {facts.tuned} tuned kernels", COLUMNS, rows)
