"""Render a report as one HTML file that fetches nothing: its style, its script and its data are in it."""

from __future__ import annotations

import base64
import gzip
import json
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from ofa_tvm.reporting import units
from ofa_tvm.reporting.condition_section import searched_at
from ofa_tvm.reporting.offers import Offer, Series, all_offers, all_series
from ofa_tvm.reporting.page_data import page_data
from ofa_tvm.reporting.sci_parts import account_of
from ofa_tvm.reporting.sections import sections
from ofa_tvm.reporting.source import Source
from ofa_tvm.support.carbon import Assumptions
from ofa_tvm.support.version import VERSION

TEMPLATES = "templates"
PROVENANCE = {
    "estimated": "Latencies on this page are estimates, no measurements: instruction counts under emulation, cycles by "
    "a model of the CPU, an assumed clock. They rank subnets; attach a board to measure.",
    "replayed": "Latencies on this page are replayed from a tuning log that was recorded earlier; nothing was measured "
    "for it.",
}


def render(source: Source, given: Assumptions) -> str:
    """The page as text; ``given`` is what emissions are computed with."""
    environment = Environment(
        loader=PackageLoader("ofa_tvm.reporting", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    series = all_series(source)
    offers = all_offers(source, series)
    provenances = {searched.result.provenance for searched in source.searches} or {
        bundled.manifest.latency.provenance for bundled in source.bundles
    }
    account = account_of(source.folders, given)
    return environment.get_template("page.html.j2").render(
        title=_title(source),
        subtitle=_subtitle(source, series, offers),
        warnings=[text for kind, text in PROVENANCE.items() if kind in provenances],
        sections=sections(source, series, offers, given, account),
        data=_embedded(page_data(source, account)),
        style=_asset("style.css"),
        script=_asset("script.js"),
        version=VERSION,
    )


def _title(source: Source) -> str:
    if not source.searches:
        manifest = source.bundles[0].manifest
        return f"{manifest.space} on {manifest.target.name}: a bundle"
    spaces = dict.fromkeys(searched.result.space for searched in source.searches)
    targets = dict.fromkeys(searched.result.target for searched in source.searches)
    return f"{', '.join(spaces)} on {', '.join(targets)}"


def _subtitle(source: Source, series: tuple[Series, ...], offers: tuple[Offer, ...]) -> str:
    if not source.searches:
        manifest = source.bundles[0].manifest
        threads = units.plural(manifest.target.threads, "thread")
        return f"{threads} · {manifest.dtype} · {manifest.created_at[:10]} · {manifest.target.fingerprint}"
    result = source.searches[0].result
    budgets = len({budget for searched in source.searches for budget in searched.result.budgets_ms})
    asked = f" for {units.plural(budgets, 'budget')}" if budgets else " along the front"
    parts = [units.plural(len(offers), "pick") + asked]
    parts += [units.plural(result.threads, "thread"), result.dtype or ""] if len(series) == 1 else []
    dates = [searched_at(searched.result)[:10] for searched in source.searches]
    return " · ".join(filter(None, [*parts, max(dates)]))


def _asset(name: str) -> str:
    return files("ofa_tvm.reporting").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _embedded(values: dict[str, object]) -> str:
    """The data as JSON, packed by gzip: the layers of many picks would be half of the page."""
    text = json.dumps(values, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
