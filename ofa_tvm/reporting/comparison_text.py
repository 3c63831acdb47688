"""A comparison of engines in words."""

from __future__ import annotations

from collections.abc import Iterator

from ofa_tvm.reporting import units
from ofa_tvm.support.command import table
from ofa_tvm.support.files import Record

UNKNOWN = "-"


def comparison_text(payload: Record) -> str:
    """Percentiles of every subnet by both protocols, speedups, starts, layers, and how far windows are apart."""
    facts = payload["machine_facts"]
    lines = [
        f"{payload['machine']}; {facts['cores']} cores, {facts['memory_gb']:g} GB; "
        f"{units.plural(payload['threads'], 'thread')}; {payload['space']}"
    ]
    lines += [
        f"{name}: {engine['version']}, {engine['precision']}: {engine['settings']}"
        for name, engine in payload["engines"].items()
    ]
    lines += [f"{name}: not installed" for name in payload["not_installed"]]
    for protocol, meaning in payload["protocols"].items():
        lines += ["", f"{protocol} ({meaning}), ms: p50 / p90 / p99", _times(payload, protocol)]
        for name, speedup in payload["geomean_speedup"][protocol].items():
            span = f" ({speedup['low']:.2f} to {speedup['high']:.2f})" if len(payload["subnets"]) > 1 else ""
            lines.append(f"ours against {name}: {speedup['geomean']:.2f}x as fast{span}")
    error = max(max(row["relative_error"].values()) for row in payload["subnets"])
    lines += [
        "",
        "blocks are like a network that runs again and again; interleaved runs find the caches of other programs",
    ]
    lines += [f"outputs agree within {error:.1e} of the largest logit", *_stability(payload["stability"])]
    if payload["starts"]:
        lines += ["", *_starts(payload)]
    if payload["layers"]:
        lines += ["", *_layers(payload)]
    return "\n".join(lines)


def _times(payload: Record, protocol: str) -> str:
    names = list(payload["engines"])

    def cell(timing: Record) -> str:
        return " / ".join(f"{timing[part]:.3f}" for part in ("median_ms", "p90_ms", "p99_ms"))

    rows = [[row["subnet"], *(cell(row["protocols"][protocol][name]) for name in names)] for row in payload["subnets"]]
    return table(["subnet", *names], rows)


def _stability(found: Record) -> Iterator[str]:
    yield (
        f"{found['verdict']}: an engine's windows are {found['apart']:.1%} apart in the median, "
        f"{found['most_apart']:.1%} at most"
    )
    yield from (f"  {remedy}" for remedy in found["remedies"])


def _starts(payload: Record) -> Iterator[str]:
    yield f"a fresh process, {payload['subnets'][0]['subnet']}: loading (with the engine's own import), first inference"
    rows = [
        [
            name,
            f"{start['load_ms']:.1f}",
            f"{start['first_ms']:.1f}",
            UNKNOWN if start["peak_mb"] is None else f"{start['peak_mb']:.1f}",
            f"{start['file_mb']:.2f}",
        ]
        for name, start in payload["starts"].items()
    ]
    yield table(["engine", "load ms", "first ms", "peak MB", "file MB"], rows)


def _layers(payload: Record) -> Iterator[str]:
    found = payload["layers"]
    first, *_ = payload["engines"]
    yield f"layer by layer, {payload['subnets'][0]['subnet']}, medians of {found['runs']} runs"
    rows = [
        [call["block"], call["kernel"], f"{call['microseconds']:.1f}", f"{call['share']:.1%}", f"{call['gflops']:.0f}"]
        for call in found["calls"]
    ]
    yield table(["block", "kernel", "us", "share", units.RATE], rows)
    others = [name for name in payload["engines"] if name != first and name not in found["silent"]]
    yield ""
    yield "us by block; engines fuse differently, and their profilers take time themselves"
    blocks = [(one["block"], one["microseconds"]) for one in found["blocks"]]
    whole = {name: sum(times.get(name, 0.0) for _, times in blocks) for name in (first, *others)}
    yield table(
        ["block", first, *(title for name in others for title in (name, "x"))],
        [[block, *_block(times, first, others)] for block, times in [*blocks, ("whole", whole)]],
    )
    if found["silent"]:
        yield f"no times of layers: {', '.join(found['silent'])}"


def _block(times: Record, first: str, others: list[str]) -> Iterator[str]:
    ours = times.get(first)
    yield UNKNOWN if ours is None else f"{ours:.1f}"
    for name in others:
        theirs = times.get(name)
        yield UNKNOWN if theirs is None else f"{theirs:.1f}"
        yield f"{theirs / ours:.2f}" if ours and theirs is not None else UNKNOWN


def two_results_text(payload: Record) -> str:
    """How a second result differs from a first."""
    first, second = payload["created_at"]
    lines = [
        f"the result of {second} beside that of {first}, {payload['subnets']} subnets; above 1 the later is faster"
    ]
    lines += [
        f"the result of {when} is unstable: its windows disagree, so a difference may be chance; run that bench again"
        for when in payload["unstable"]
    ]
    lines += [f"differ in {name}: {one} and {other}" for name, (one, other) in payload["differences"].items()]
    rows = [
        [name, *versions, *(_changed(found[name]) for found in payload["changes"].values())]
        for name, versions in payload["versions"].items()
    ]
    lines.append(table(["engine", "first", "second", *payload["changes"]], rows))
    for protocol, change in payload["ours_beside_them"].items():
        control = " and ".join(payload["unchanged_engines"])
        lines.append(f"{protocol}, ours beside {control}, which are the same in both: {_changed(change)}")
    if not payload["ours_beside_them"]:
        lines.append("no other engine is the same in both: what the machine did cannot be told from what we did")
    return "\n".join(lines)


def _changed(change: Record) -> str:
    return f"{change['ratio']:.3f}x ({change['low']:.3f}-{change['high']:.3f}), {change['verdict']}"
