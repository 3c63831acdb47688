"""Render a search as one HTML page without scripts or anything to fetch."""

from __future__ import annotations

import json

from jinja2 import Environment, PackageLoader, StrictUndefined

from ofa_tvm.nas.objectives import OBJECTIVES
from ofa_tvm.nas.result import SearchResult
from ofa_tvm.reporting import chart
from ofa_tvm.support.console import duration
from ofa_tvm.support.ledger import total
from ofa_tvm.support.version import VERSION

METHODS = {
    "model": "XGBoost on top of the kernel table (in use)",
    "table_alone": "kernel table, one factor",
    "additive": "additive (ridge on choices)",
    "xgboost_raw": "XGBoost on raw choices",
    "flops": "FLOPs, one factor",
}
IMPORTANT = 8


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"  # noqa: RUF001


def _share(value: float | None, error: float | None) -> str:
    """A fraction with its standard error."""
    if value is None or error is None:
        return _percent(value)
    return f"{100 * value:.2f} ± {100 * error:.2f} %"


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


def _watt_hours(kwh: float) -> str:
    return f"{1e3 * kwh:.3g}"


def _important(run: SearchResult) -> list[tuple[str, float]]:
    """The features that matter most, of both parts of the latency model."""
    parts = run.cost_model.importance if run.cost_model else {}
    shares = [(name, share) for part in parts.values() for name, share in part.items()]
    return sorted(shares, key=lambda pair: -pair[1])[:IMPORTANT]


def render(run: SearchResult) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("ofa_tvm.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {
        "ms": _ms,
        "percent": _percent,
        "share": _share,
        "millions": _millions,
        "watt_hours": _watt_hours,
        "duration": duration,
    }
    environment.filters.update(filters)
    conditions = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in run.conditions.items()
    }
    return environment.get_template("page.html.j2").render(
        run=run,
        chart=chart.scatter(run.front, run.picks, run.budgets_ms),
        top1_shown=chart.top1_shown,
        geometry=chart,
        conditions=conditions,
        methods=METHODS,
        objectives=OBJECTIVES,
        important=_important(run),
        costs=[*run.cost, total("all phases", run.cost)] if run.cost else [],
        version=VERSION,
    )
