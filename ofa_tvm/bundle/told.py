"""What a bundle tells of its latency, and what its calls draw."""

from __future__ import annotations

from ofa_tvm.bundle.manifest import Latency, Manifest
from ofa_tvm.timing.inference import Inference, Told


def told_latency(latency: Latency) -> tuple[Told, str]:
    """The latency that is told, and how it was obtained; what was measured comes before what was estimated."""
    if latency.measured_ms is not None:
        return Told(latency.measured_ms, True, latency.timing, latency.percentile), "measured"
    if latency.search_measured_ms is not None:
        return Told(latency.search_measured_ms, True), "measured on the device by the search"
    if latency.estimated_ms is not None:
        return Told(latency.estimated_ms, False), "estimated, no measurement"
    if latency.search_estimated_ms is not None:
        return Told(latency.search_estimated_ms, False), "estimated by the search, no measurement"
    return Told(None, False), "not measured"


def bundle_inference(manifest: Manifest, watts: float | None = None) -> tuple[Inference | None, str]:
    """What a call of a bundle takes, or why that is not known; ``watts`` as a meter reads them."""
    told, _ = told_latency(manifest.latency)
    shape = (manifest.target.threads, manifest.input.shape[0])
    return Inference.of(told, shape, watts, manifest.target.attributes)
