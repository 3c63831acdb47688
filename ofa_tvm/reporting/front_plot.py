"""Accuracy against latency: the predicted front of each target, what was measured, the picks and the budgets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ofa_tvm.nas.result import FrontPoint, SearchResult, Verified
from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.offers import Offer, Series, series_of
from ofa_tvm.reporting.parts import LegendEntry, Line, Mark, Plot, Rule

Placed = tuple[Series, FrontPoint]
Found = tuple[Series, Verified]
ROOM = 22
"""Per cent of a narrow plot that the label of a budget takes."""
LOWER_IN_TESTS = (
    "Accuracy on test images is usually lower: picks are chosen by validation accuracy, where the best of many look "
    "better than they are, and held-out training images are not test images."
)
HIGHER = " Why a finalist may stand above a pick is told under 'What the search did'."
MOST_DOTS = 300
"""Dots of all fronts; of longer ones every second, third, ... is drawn."""


def front_plot(results: Sequence[SearchResult], series: tuple[Series, ...], offers: Sequence[Offer]) -> Plot | None:
    """The plot; None where there is nothing to draw. Budgets far away from everything else are left out."""
    most = MOST_DOTS // max(1, len(results))
    front = [
        (series_of(series, result, point.dtype), point) for result in results for point in _thinned(result.front, most)
    ]
    found = [
        (series_of(series, result, entry.dtype), one)
        for result in results
        for entry in result.rounds
        for one in entry.verified
    ]
    drawn = [offer for offer in offers if offer.accuracies.drawn is not None]
    if not front and not drawn:
        return None
    x = _latency_axis(front, found, drawn)
    near = near_budgets(results, x)
    x = Axis.over([x.low, x.high, *near], margin=0.0) if near else x
    y = Axis.over([100 * value for value in _accuracies(front, found, drawn)], is_upwards=True)
    marks = [*_front_marks(front, x, y), *_found_marks(found, x, y), *_pick_marks(drawn, x, y)]
    beyond = sorted({budget for result in results for budget in result.budgets_ms} - set(near))
    far = f" Budgets beyond the plot: {', '.join(map(units.milliseconds, beyond))}." if beyond else ""
    higher = HIGHER if any(entry.budget_ms is not None for result in results for entry in result.rounds) else ""
    return Plot(
        name="front",
        title="Accuracy against latency",
        description=f"{len(front)} subnets of the predicted front and {len(drawn)} picks. {_front_text(results)} "
        "Squares: picks, at their measured latency and validation accuracy, each with the 90 % interval of the latency "
        f"that was predicted before it was measured. {LOWER_IN_TESTS}{higher} Hover or use the arrow keys "
        f"for a subnet's name; click or press Enter to keep it.{far}",
        x_label="latency in ms",
        y_label="top-1 in %, on held-out training images (validation); of the front, predicted",
        x_ticks=x.ticks,
        y_ticks=y.ticks,
        lines=tuple(_line(one, front, x, y) for one in series),
        marks=tuple(marks),
        rules=_rules(near, x),
        legend=_legend(series, bool(found), results),
        is_large=True,
        pin_commands=tuple(_deploys(one, results) for one in series),
    )


def _when(results: Sequence[SearchResult]) -> str:
    """By which models the front is predicted."""
    return "after the last round" if all(result.front_rounds for result in results) else "before the first round"


def _front_text(results: Sequence[SearchResult]) -> str:
    return (
        f"Line: the front as the models predicted it {_when(results)} of measurements; a pick's own prediction is that "
        "of the round that chose it, so the two may differ."
    )


def _deploys(series: Series, results: Sequence[SearchResult]) -> str:
    """What deploys a subnet of a series, up to its key."""
    result = next(one for one in results if one.target == series.target)
    words = ["--supernet", str(result.supernet), "--target", result.target_source or result.target]
    words += ["--threads", str(result.threads)]
    words += ["--dtype", series.dtype] if series.dtype is not None else []
    return f"python -m ofa_tvm.deploy {shlex.join([*words, '--out', 'bundle', '--subnet'])}"


def _rules(budgets: Sequence[float], x: Axis) -> tuple[Rule, ...]:
    """Labels of neighbours that would overlap stand on two levels."""
    rules: list[Rule] = []
    for budget in budgets:
        overlaps = bool(rules) and x(budget) - rules[-1].x < ROOM and rules[-1].level == 0
        rules.append(Rule(x(budget), f"≤ {budget:g} ms", int(overlaps)))
    return tuple(rules)


def near_budgets(results: Sequence[SearchResult], x: Axis) -> list[float]:
    """Budgets that lie not much further than everything else."""
    reach = x.high - x.low
    budgets = {budget for result in results for budget in result.budgets_ms}
    return sorted(budget for budget in budgets if x.low - reach <= budget <= x.high + reach)


def _thinned(front: Sequence[FrontPoint], most: int) -> list[FrontPoint]:
    ordered = sorted(front, key=lambda point: point.predicted_ms)
    step = -(-len(ordered) // most) or 1
    return [*ordered[:-1:step], *ordered[-1:]]


def _latency_axis(front: Sequence[Placed], found: Sequence[Found], drawn: Sequence[Offer]) -> Axis:
    values = [point.predicted_ms for _, point in front] + [one.verified_ms for _, one in found]
    for offer in drawn:
        predicted = offer.predicted
        values += [] if offer.latency_ms is None else [offer.latency_ms]
        values += [] if predicted is None else [predicted.low_ms, predicted.high_ms]
    return Axis.over(values)


def _accuracies(front: Sequence[Placed], found: Sequence[Found], drawn: Sequence[Offer]) -> list[float]:
    values = [point.predicted_top1 for _, point in front] + [_top1(one) for _, one in found]
    return values + [offer.accuracies.drawn or 0.0 for offer in drawn]


def _top1(one: Verified) -> float:
    return one.predicted_top1 if one.validation_top1 is None else one.validation_top1


def _line(series: Series, front: Sequence[Placed], x: Axis, y: Axis) -> Line:
    own = sorted((point.predicted_ms, point.predicted_top1) for one, point in front if one == series)
    return Line(tuple((x(latency), y(100 * top1)) for latency, top1 in own), series.number)


def _front_marks(front: Sequence[Placed], x: Axis, y: Axis) -> list[Mark]:
    return [
        Mark(
            x=x(point.predicted_ms),
            y=y(100 * point.predicted_top1),
            tip=f"{point.subnet}\npredicted {units.milliseconds(point.predicted_ms)}, "
            f"{units.percent(point.predicted_top1)} top-1{_on(series)}",
            series=series.number,
        )
        for series, point in front
    ]


def _found_marks(found: Sequence[Found], x: Axis, y: Axis) -> list[Mark]:
    """Each subnet once, as it was found last."""
    last = {(series.number, one.subnet): (series, one) for series, one in found}
    return [
        Mark(
            x=x(one.verified_ms),
            y=y(100 * _top1(one)),
            tip=f"{one.subnet}\nmeasured {units.milliseconds(one.verified_ms)}, predicted "
            f"{units.milliseconds(one.predicted_ms)}\n{units.percent(_top1(one))} top-1, "
            f"{'predicted' if one.validation_top1 is None else 'validated'}{_on(series)}",
            shape="ring",
            series=series.number,
        )
        for series, one in last.values()
    ]


def _pick_marks(drawn: Sequence[Offer], x: Axis, y: Axis) -> list[Mark]:
    marks = []
    for offer in drawn:
        predicted, top1 = offer.predicted, offer.accuracies.drawn or 0.0
        middle_ms = offer.latency_ms or (predicted.middle_ms if predicted else 0.0)
        told = "" if predicted is None else f"\npredicted {units.milliseconds(predicted.middle_ms)}"
        marks.append(
            Mark(
                x=x(middle_ms),
                y=y(100 * top1),
                tip=f"{offer.name}: {offer.subnet}\n{offer.provenance} {units.milliseconds(offer.latency_ms)}{told}\n"
                f"{units.percent(top1)} top-1 on held-out images{_on(offer.series)}",
                shape="square",
                series=offer.series.number,
                label="" if offer.number is None else str(offer.number),
                low=None if predicted is None else x(predicted.low_ms),
                high=None if predicted is None else x(predicted.high_ms),
            )
        )
    return marks


def _on(series: Series) -> str:
    return f"\n{series.label}"


def _legend(series: tuple[Series, ...], has_found: bool, results: Sequence[SearchResult]) -> tuple[LegendEntry, ...]:
    colours = [LegendEntry(one.label, "swatch", one.number) for one in series] if len(series) > 1 else []
    kind = results[0].provenance if results else "measured"
    shapes = [LegendEntry(f"front, predicted {_when(results)}", "dot"), LegendEntry("pick", "square")]
    if has_found:
        shapes.insert(1, LegendEntry(f"{kind} finalist", "ring"))
    return (*colours, *shapes, LegendEntry("budget", "dashed"))
