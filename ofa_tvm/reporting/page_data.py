"""What the page's JSON download holds: what was read, with numbers of six digits."""

from __future__ import annotations

from dataclasses import asdict

from ofa_tvm.reporting.source import Source

DIGITS = 6


def page_data(source: Source) -> dict[str, object]:
    """The sources as JSON values."""
    return {
        "searches": [_rounded(searched.result.model_dump(mode="json")) for searched in source.searches],
        "bundles": [_rounded(bundled.manifest.record()) for bundled in source.bundles],
        "benches": [_rounded(bench.model_dump(mode="json")) for bench in source.benches],
        "regret": [_rounded(asdict(entry)) for entry in source.regret],
    }


def _rounded(value: object) -> object:
    """The value with its numbers rounded, without what is empty."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items() if inner not in (None, [], {}, ())}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
