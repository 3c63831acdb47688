"""What the page's JSON download holds: what was read, with numbers of six digits."""

from __future__ import annotations

from dataclasses import asdict

from ofa_tvm.reporting.sci import SciReport
from ofa_tvm.reporting.source import Source
from ofa_tvm.support.errors import UserError

DIGITS = 6


def page_data(source: Source, account: SciReport | UserError) -> dict[str, object]:
    """The sources as JSON values, and what emissions were computed from them."""
    emissions = {"unknown": account.what} if isinstance(account, UserError) else account.record()
    return {
        "searches": [_rounded(searched.result.model_dump(mode="json")) for searched in source.searches],
        "bundles": [_rounded(bundled.manifest.record()) for bundled in source.bundles],
        "benches": [_rounded(bench.model_dump(mode="json")) for bench in source.benches],
        "regret": [_rounded(asdict(entry)) for entry in source.regret],
        "emissions": _rounded(emissions),
    }


def _rounded(value: object) -> object:
    """The value with its numbers rounded, without what is empty."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items() if inner not in (None, [], {}, ())}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
