"""The models behind predictions: their errors, how these fall with samples, and what the models rest on."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ofa_tvm.nas.result import LatencyQuality, SearchResult
from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.offers import Series
from ofa_tvm.reporting.parts import (
    Cell,
    Column,
    Fact,
    Facts,
    Fold,
    LegendEntry,
    Line,
    Mark,
    Note,
    Part,
    Plot,
    Section,
    Table,
)

METHODS = {
    "model": "the model in use: kernel table, additive, trees",
    "table_alone": "kernel table, one factor",
    "additive": "additive (ridge on choices)",
    "xgboost_raw": "XGBoost on raw choices",
    "flops": "FLOPs, one factor",
}
FEATURES = {
    "area": "area of the input",
    "kernels": "number of kernels",
    "macs": "multiply-accumulates",
    "parameter_bytes": "size of the weights",
    "activation_bytes": "size of the maps",
}
SHOWN = 12
METHOD_COLUMNS = (
    Column("model", is_text=True, is_wide=True),
    Column("mean error"),
    Column("within 5 %"),
    Column("within 10 %"),
    Column("rank correlation"),
)
FEATURE_COLUMNS = (Column("rests on", is_text=True, is_wide=True), Column("moves a prediction by"))


def model_section(results: Sequence[tuple[Series, SearchResult]]) -> Section | None:
    """The section; None where there is no search."""
    if not results:
        return None
    parts: list[Part | Fold] = []
    for series, result in results:
        prefix = series.label if len(results) > 1 else ""
        parts.append(Facts((*_latency_facts(result, prefix), *_accuracy_facts(result))))
        if result.accuracy_note:
            parts.append(Note(result.accuracy_note, "warn"))
        quality = result.cost_model
        if quality is None:
            nothing = "the search says nothing of its latency model's error."
            parts.append(Note(units.titled(prefix, nothing), "warn"))
        else:
            parts += _details(quality, prefix, is_open=len(results) == 1)
    return Section("models", "How far predictions can be trusted", "Models", tuple(parts))


def _latency_facts(result: SearchResult, prefix: str) -> list[Fact]:
    quality = result.cost_model
    if quality is None:
        return []
    facts = [
        Fact(
            f"{prefix}: latency model, mean error" if prefix else "latency model, mean error",
            units.percent(quality.mape, 1),
            f"cross-validated on {quality.samples} {result.provenance} subnets",
        )
    ]
    if quality.spearman is not None:
        facts.append(Fact("rank correlation", f"{quality.spearman:.3f}", "Spearman"))
    if quality.interval_coverage is not None:
        facts.append(Fact("latencies in their 90 % interval", units.percent(quality.interval_coverage, 0)))
    if quality.mape_with_twice_the_samples is not None:
        twice = quality.mape_with_twice_the_samples
        told = units.percent(twice, 1) if twice < quality.mape else "no gain expected"
        facts.append(Fact("error with twice the samples", told, "as the learning curve promises"))
    return facts


def _accuracy_facts(result: SearchResult) -> list[Fact]:
    quality = result.accuracy_predictor
    if quality is None:
        return []
    error = units.percent(quality.mae)
    facts = [Fact("accuracy predictor, mean error", error, f"points of top-1, {quality.samples} evaluated subnets")]
    if quality.kendall_tau is not None:
        facts.append(Fact("rank correlation of accuracy", f"{quality.kendall_tau:.3f}", "Kendall, on subnets not seen"))
    return facts


def _details(quality: LatencyQuality, prefix: str, is_open: bool) -> list[Part | Fold]:
    parts: list[Part | Fold] = []
    if len(quality.learning_curve) > 1:
        parts.append(_curve(quality, prefix))
    if inside := (*_methods(quality), *_features(quality)):
        parts.append(Fold(units.titled(prefix, "other models, and what this one rests on"), inside, is_open))
    return parts


def _curve(quality: LatencyQuality, prefix: str) -> Plot:
    points = quality.learning_curve
    names = [name for name in METHODS if name in points[0].mape]
    x = Axis.over([math.log10(point.samples) for point in points], margin=0.04)
    errors = [100 * point.mape[name] for point in points for name in names]
    y = Axis.over([0.0, *errors], is_upwards=True).from_zero()
    lines, marks = [], []
    for number, name in enumerate(names):
        places = [(x(math.log10(point.samples)), y(100 * point.mape[name])) for point in points]
        lines.append(Line(tuple(places), number))
        marks += [
            Mark(*place, f"{METHODS[name]}\n{point.samples} samples: {point.mape[name]:.1%}", series=number)
            for place, point in zip(places, points, strict=True)
        ]
    return Plot(
        name="learning-curve",
        title=units.titled(prefix, "error over samples"),
        description="Mean error on subnets that were not fitted, by the number that was.",
        x_label="measured subnets",
        y_label="mean error in %",
        x_ticks=tuple((x(math.log10(point.samples)), str(point.samples)) for point in points),
        y_ticks=y.ticks,
        lines=tuple(lines),
        marks=tuple(marks),
        legend=tuple(LegendEntry(METHODS[name], "line", number) for number, name in enumerate(names)),
    )


def _methods(quality: LatencyQuality) -> list[Part]:
    rows = tuple(
        (
            Cell(label),
            *(
                Cell(units.percent(scores.get(key), 1), scores.get(key))
                for key in ("mape", "within_5pct", "within_10pct")
            ),
            Cell(f"{scores['spearman']:.3f}" if "spearman" in scores else units.UNKNOWN, scores.get("spearman")),
        )
        for name, label in METHODS.items()
        if (scores := quality.methods.get(name))
    )
    caption = "The same subnets by other models, cross-validated"
    return [Table("latency-models", caption, METHOD_COLUMNS, rows)] if rows else []


def _features(quality: LatencyQuality) -> list[Part]:
    shares = [(name, share) for part in quality.importance.values() for name, share in part.items() if share > 0]
    if not shares:
        return []
    shares = sorted(shares, key=lambda pair: -pair[1])[:SHOWN]
    rows = tuple(
        (Cell(feature_text(name)), Cell(units.percent(share, 2), share, bar=share / shares[0][1]))
        for name, share in shares
    )
    caption = (
        "How far each moves a prediction away from the mean subnet's, up or down, in per cent of the latency (mean "
        "absolute Shapley values). They do not add up to 100 %: most of a latency is common to all subnets."
    )
    return [Table("rests-on", caption, FEATURE_COLUMNS, rows)]


def feature_text(name: str) -> str:
    """A feature in words: ``depthwise_ms`` is the time of depthwise kernels."""
    if match := re.fullmatch(r"(\w+)_ms", name):
        return f"time of {units.words(match.group(1))} kernels"
    return FEATURES.get(name, units.words(name))
