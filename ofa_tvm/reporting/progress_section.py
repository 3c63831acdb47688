"""What a search did: its rounds, how far they came, and how well predictions were met by measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ofa_tvm.nas.result import SearchRound, Verified
from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.offers import Series
from ofa_tvm.reporting.parts import Cell, Column, LegendEntry, Line, Mark, Note, Part, Plot, Section, Table

COLUMNS = (
    Column("round"),
    Column("target", is_text=True),
    Column("budget", "ms"),
    Column("finalists"),
    Column("within budget"),
    Column("new subnets predicted off by"),
    Column("best top-1 so far", note="validated, of all finalists, whether they are picked or not"),
    Column("front reached"),
)
HOW_CHOSEN = (
    "Of the finalists that hold a budget in their slowest window, with 2 % to spare, the pick is the one with the best "
    "expected accuracy: validated and predicted together, as the best of several looks better than it is. Of those "
    "that are as accurate within a standard error, the fastest is picked. So a finalist with more validation accuracy "
    "need not be the pick."
)
Rounds = Sequence[tuple[Series, SearchRound]]


def progress_section(rounds: Rounds, series: tuple[Series, ...]) -> Section | None:
    """The section; None where there were no rounds."""
    if not rounds:
        return None
    volumes = {one.number: hypervolumes([r.verified for s, r in rounds if s == one]) for one in series}
    parts: list[Part] = [
        Note(
            f"{units.plural(len(rounds), 'round')} of search, measurement and correction. In each round the models "
            "choose finalists; these are measured, and the models learn from them."
        )
    ]
    if any(entry.budget_ms is not None for _, entry in rounds):
        parts.append(Note(HOW_CHOSEN))
    if any(entry.verified for _, entry in rounds):
        parts += [_volume_plot(volumes, series), *_scatter(rounds, series)]
    else:
        parts.append(Note("What was measured in each round is not in results of older versions: search again.", "warn"))
    parts.append(Table("rounds", "Rounds", _columns(series), tuple(_rows(rounds, volumes, series))))
    return Section("search", "What the search did", "Search", tuple(parts))


def hypervolumes(rounds: Sequence[Sequence[Verified]]) -> list[float]:
    """Area that the measured front dominates after each round, over that after the last one.

    The corner is the slowest latency and the lowest accuracy of all that was measured.
    """
    points = [(one.verified_ms, _top1(one)) for entry in rounds for one in entry]
    if not points:
        return [0.0] * len(rounds)
    slowest, lowest = max(latency for latency, _ in points), min(top1 for _, top1 in points)
    seen: list[tuple[float, float]] = []
    areas = []
    for entry in rounds:
        seen += [(one.verified_ms, _top1(one)) for one in entry]
        areas.append(_dominated(seen, slowest, lowest))
    return [area / areas[-1] if areas[-1] else 1.0 for area in areas]


def _dominated(points: Sequence[tuple[float, float]], slowest: float, lowest: float) -> float:
    area, best = 0.0, lowest
    for latency, top1 in sorted(points):
        if top1 > best:
            area += (slowest - latency) * (top1 - best)
            best = top1
    return area


def _top1(one: Verified) -> float:
    return one.predicted_top1 if one.validation_top1 is None else one.validation_top1


def _columns(series: tuple[Series, ...]) -> tuple[Column, ...]:
    if len(series) == 1:
        return tuple(column for column in COLUMNS if column.label != "target")
    return tuple(replace(one, label=series[0].what) if one.label == "target" else one for one in COLUMNS)


def _rows(rounds: Rounds, volumes: dict[int, list[float]], series: tuple[Series, ...]) -> list[tuple[Cell, ...]]:
    rows = []
    for one in series:
        best = 0.0
        for number, entry in enumerate((r for s, r in rounds if s == one), 1):
            best = max([best, *(_top1(found) for found in entry.verified)])
            finalists, error = len(entry.finalists), entry.mean_latency_error
            volume = volumes[one.number][number - 1]
            rows.append(
                (
                    Cell(str(number), number),
                    *([Cell(one.label)] if len(series) > 1 else []),
                    Cell(units.digits(entry.budget_ms), entry.budget_ms),
                    Cell(str(finalists), finalists),
                    Cell(str(entry.within_budget), entry.within_budget),
                    Cell(units.percent(error, 1), error),
                    Cell(units.percent(best or None), best or None),
                    Cell(units.percent(volume or None, 1), volume or None),
                )
            )
    return rows


def _legend(series: tuple[Series, ...]) -> tuple[LegendEntry, ...]:
    return tuple(LegendEntry(one.label, "swatch", one.number) for one in series) if len(series) > 1 else ()


def _volume_plot(volumes: dict[int, list[float]], series: tuple[Series, ...]) -> Plot:
    rounds = max(map(len, volumes.values()))
    x = Axis.over([1, max(2, rounds)], margin=0.04)
    y = Axis.over([100 * value for values in volumes.values() for value in values], is_upwards=True)
    lines, marks = [], []
    for one in series:
        places = [(x(number), y(100 * value)) for number, value in enumerate(volumes[one.number], 1)]
        lines.append(Line(tuple(places), one.number))
        marks += [
            Mark(*place, f"{one.label}, round {number}: {value:.1%} of the final front", series=one.number)
            for number, (place, value) in enumerate(zip(places, volumes[one.number], strict=True), 1)
        ]
    return Plot(
        name="hypervolume",
        title="Front reached, round by round",
        description="Area that the measured subnets dominate (hypervolume), as a share of the final one.",
        x_label="round",
        y_label="% of the final front",
        x_ticks=tuple((x(number), str(number)) for number in range(1, rounds + 1)),
        y_ticks=y.ticks,
        lines=tuple(lines),
        marks=tuple(marks),
        legend=_legend(series),
    )


def _scatter(rounds: Rounds, series: tuple[Series, ...]) -> list[Plot]:
    new = [(one, found) for one, entry in rounds for found in entry.verified if found.is_new]
    if not new:
        return []
    values = [value for _, found in new for value in (found.predicted_ms, found.verified_ms)]
    x, y = Axis.over(values), Axis.over(values, is_upwards=True)
    marks = tuple(
        Mark(
            x(found.predicted_ms),
            y(found.verified_ms),
            f"{found.subnet}\npredicted {units.milliseconds(found.predicted_ms)}, measured "
            f"{units.milliseconds(found.verified_ms)} "
            f"({units.signed_percent(found.verified_ms / found.predicted_ms - 1)})\n{one.label}",
            series=one.number,
            low=x(found.predicted_low_ms) if x.holds(found.predicted_low_ms) else None,
            high=x(found.predicted_high_ms) if x.holds(found.predicted_high_ms) else None,
        )
        for one, found in new
    )
    diagonal = Line(((x(x.low), y(x.low)), (x(x.high), y(x.high))), style="faint")
    return [
        Plot(
            name="predicted-measured",
            title="Predicted and measured latency",
            description=f"{len(marks)} finalists that the model had not learned from, with their 90 % intervals; on "
            "the diagonal the prediction was right.",
            x_label="predicted ms",
            y_label="measured ms",
            x_ticks=x.ticks,
            y_ticks=y.ticks,
            lines=(diagonal,),
            marks=marks,
            legend=_legend(series),
        )
    ]
