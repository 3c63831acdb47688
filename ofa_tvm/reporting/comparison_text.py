"""A comparison of engines in words."""

from __future__ import annotations

from statistics import median

from ofa_tvm.support.command import table
from ofa_tvm.support.files import Record


def comparison_text(payload: Record) -> str:
    """Medians of every subnet by both protocols, speedups, and how far windows and outputs are apart."""
    names = list(payload["engines"])
    lines = [f"{payload['machine']}; {payload['threads']} threads; {payload['space']}"]
    lines += [
        f"{name}: {facts['version']}, {facts['precision']}: {facts['settings']}"
        for name, facts in payload["engines"].items()
    ]
    lines += [f"{name}: not installed" for name in payload["not_installed"]]
    for protocol, meaning in payload["protocols"].items():
        cells = [
            [row["subnet"], *(f"{row['protocols'][protocol][name]['median_ms']:.3f}" for name in names)]
            for row in payload["subnets"]
        ]
        lines += ["", f"{protocol} ({meaning}), median ms", table(["subnet", *names], cells)]
        for name, speedup in payload["geomean_speedup"][protocol].items():
            span = f" ({speedup['low']:.2f} to {speedup['high']:.2f})" if len(cells) > 1 else ""
            lines.append(f"ours against {name}: {speedup['geomean']:.2f}x as fast{span}")
    timings = [timing for row in payload["subnets"] for times in row["protocols"].values() for timing in times.values()]
    apart = median(timing["high_ms"] / timing["low_ms"] - 1 for timing in timings)
    error = max(max(row["relative_error"].values()) for row in payload["subnets"])
    lines += [
        "",
        f"an engine's windows are {apart:.1%} apart, in the median",
        "blocks are like a network that runs again and again; interleaved runs find the caches of other programs",
        f"outputs agree within {error:.1e} of the largest logit",
    ]
    return "\n".join(lines)
