"""A bundle in words."""

from __future__ import annotations

from pathlib import Path

from ofa_tvm.bundle.folder import bundle_bytes
from ofa_tvm.bundle.manifest import Latency, Manifest
from ofa_tvm.reporting.interval import interval_text
from ofa_tvm.reporting.units import plural
from ofa_tvm.support.amounts import size
from ofa_tvm.support.command import table
from ofa_tvm.support.ledger import Cost

HELD = {True: "holds here, in the slowest window too", False: "does not hold here", None: "not known to hold here"}


def manifest_text(manifest: Manifest, cost: Cost, out: Path) -> str:
    """A manifest as text for a person."""
    accuracy, latency, target = manifest.accuracy, manifest.latency, manifest.target
    rows = [
        ["subnet", manifest.subnet],
        ["input", f"{manifest.input.name} {manifest.input.shape} {manifest.input.layout} {manifest.input.dtype}"],
        ["size", f"{manifest.macs / 1e6:.1f} M MACs, {manifest.parameters / 1e6:.2f} M parameters, {manifest.dtype}"],
        *([["precision", manifest.precision.words()]] if manifest.precision else []),
        ["bundle", _sizes(out, manifest)],
        ["needs", f"glibc {manifest.glibc} or newer" if manifest.glibc else "unknown: no readelf to ask for its glibc"],
        ["target", f"{target.name}, {plural(target.threads, 'thread')} ({target.fingerprint})"],
        ["kernels", f"{target.tuned_kernels} tuned, {target.default_kernels} by default schedule, 0 trials"],
        _speed(latency),
    ]
    if latency.predicted_ms is not None:
        interval = interval_text(latency.predicted_low_ms, latency.predicted_high_ms)
        rows.append(["predicted", f"{latency.predicted_ms:.3f} ms ({interval})"])
    if latency.budget_ms is not None:
        rows.append(["budget", f"{latency.budget_ms:g} ms: {HELD[latency.budget_held]}"])
    rows.append(["test top-1", _top1(manifest)])
    apart = accuracy.max_relative_logit_difference
    rows.append(["logits", accuracy.how if apart is None else f"within {apart:.1e} of those of {accuracy.reference}"])
    costs = [
        [part.phase, f"{part.wall_s:.1f}", f"{part.cpu_s:.1f}", part.watt_hours.text] for part in (*manifest.cost, cost)
    ]
    return "\n".join(
        [
            *(f"{name:<12}{value}" for name, value in rows),
            "",
            "what this deployment cost",
            table(["phase", "wall s", "CPU s", "energy"], costs),
            f"energy: {cost.method}",
            f"wrote {out}",
        ]
    )


def _top1(manifest: Manifest) -> str:
    accuracy = manifest.accuracy
    if accuracy.test_top1 is None:
        return "not checked"
    in_float32 = "" if accuracy.torch_test_top1 is None else f" ({accuracy.torch_test_top1:.2%} in float32)"
    may_lose = manifest.dtype != "float32"
    return f"{accuracy.test_top1:.2%} of {accuracy.test_images} images{in_float32 if may_lose else ''}"


def _speed(latency: Latency) -> list[str]:
    if latency.measured_ms is not None:
        return ["measured", f"{latency.measured_ms:.3f} ms{_windows(latency)}"]
    if latency.estimated_ms is not None:
        return ["estimated", f"{latency.estimated_ms:.3f} ms, no measurement"]
    if latency.provenance == "replayed":
        latency_ms = latency.search_estimated_ms
        return ["replayed", "not looked up" if latency_ms is None else f"{latency_ms:.3f} ms, as the recording has it"]
    latency_ms = latency.search_measured_ms
    return [
        "measured",
        "not here" if latency_ms is None else f"{latency_ms:.3f} ms, as the search knows it from the device",
    ]


def _windows(latency: Latency) -> str:
    """The windows behind a measured latency."""
    timing = latency.timing
    if timing is None:
        return ""
    low, high = timing.spread_ms(latency.percentile)
    which = "" if latency.percentile == 50 else f", p{latency.percentile}"
    disturbed = "" if timing.is_sound else "; disturbed by other work"
    return f"{which} ({low:.3f} to {high:.3f} in {len(timing.windows)} windows of single calls{disturbed})"


def _sizes(folder: Path, manifest: Manifest) -> str:
    each = ", ".join(f"{name} {size(facts.bytes)}" for name, facts in manifest.files.items())
    return f"{size(bundle_bytes(folder, manifest))} with its manifest ({each})"
