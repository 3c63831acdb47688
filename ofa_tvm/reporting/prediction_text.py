"""Predictions in words: latencies, where they go, and how good a fit is."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.cost_model.baselines import BASELINES, OURS
from ofa_tvm.measurement.prediction import Basis, PredictedSubnet
from ofa_tvm.reporting.interval import interval_text
from ofa_tvm.support.command import table
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.tuned_space import TunedSpace

HEADERS = ["subnet", "predicted ms", "90 % interval", "predicted top-1", "MMACs", "k parameters"]

BASES: dict[Basis, str] = {
    "latency model": "learned from {} latencies",
    "measurement": "{} before",
    "kernel times": "the sum of its kernels' {} times",
}


def basis_text(predicted: Sequence[PredictedSubnet], provenance: str) -> str:
    """What predicted latencies rest on; ``provenance`` says how latencies of the target are obtained."""
    return "; ".join(BASES[basis].format(provenance) for basis in sorted({subnet.basis for subnet in predicted}))


def coverage_text(space: TunedSpace) -> str:
    """A remark where not all kernels of the space are tuned: the latencies will change."""
    tuned, kernels = space.tuned_kernels, len(space.kernels())
    return f"; only {tuned} of {kernels} kernels are tuned, others run default schedules" if tuned < kernels else ""


def predictions_text(predicted: Sequence[PredictedSubnet]) -> str:
    """A table of subnets, and one of the layers of each whose parts are known."""
    tables = [table(HEADERS, [_cells(subnet) for subnet in predicted])]
    return "\n\n".join([*tables, *(_layers(subnet) for subnet in predicted if subnet.parts)])


def _layers(subnet: PredictedSubnet) -> str:
    parts = [
        [
            " ".join(part.layers),
            f"{part.predicted_ms * 1e3:.1f}",
            f"{part.predicted_ms / subnet.predicted_ms:.1%}",
            f"{part.kernel_ms * 1e3:.1f}" + ("" if part.is_tuned else " (estimated)"),
        ]
        for part in subnet.parts
    ]
    return table([f"layers of one call of {subnet.subnet}", "us in the subnet", "share", "us alone"], parts)


def _cells(subnet: PredictedSubnet) -> list[str]:
    return [
        subnet.subnet,
        f"{subnet.predicted_ms:.3f}",
        interval_text(subnet.predicted_low_ms, subnet.predicted_high_ms),
        "-" if subnet.predicted_top1 is None else f"{subnet.predicted_top1:.2%}",
        f"{subnet.macs / 1e6:.1f}",
        f"{subnet.parameters / 1e3:.0f}",
    ]


def sums_text(rows: Sequence[Record]) -> str:
    """Sums of published block latencies; of one subnet, with its blocks."""
    text = table(
        ["subnet", "sum of block latencies, ms"], [[row["subnet"], f"{row['predicted_ms']:.2f}"] for row in rows]
    )
    if len(rows) > 1:
        return text
    parts = [[name, f"{block_ms:.3f}"] for name, block_ms in rows[0]["parts"].items()]
    return "\n".join([text, "", table(["block", "ms"], parts)])


def fit_text(payload: Record) -> str:
    """How good a latency model fitted to a file is, and its baselines."""
    rows = [
        [
            name,
            *(f"{payload[name][key]:.2%}" for key in ("mape", "within_5pct", "within_10pct")),
            f"{payload[name]['spearman']:.4f}",
        ]
        for name in (OURS, *BASELINES)
        if name in payload
    ]
    start = f", starting from {payload['base']}" if payload["base"] else ""
    title = f"fitted to {payload['train']} subnets{start}"
    quality = table([title, "MAPE", "within 5 %", "within 10 %", "Spearman"], rows)
    return f"{quality}\nthe 90 % interval held {payload['interval_coverage']:.1%} of {payload['test']} other subnets"
