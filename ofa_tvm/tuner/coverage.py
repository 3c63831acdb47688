"""What a tuning log knows of a set of kernels, and where a mean subnet's time goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from ofa_tvm.support.files import Record
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace


@dataclass(frozen=True)
class KernelShare:
    """A tuned kernel's part in the time of a mean subnet."""

    kernel: str
    best_ms: float
    gflops_per_s: float
    calls: float
    share: float
    trials: int
    source: str


@dataclass(frozen=True)
class Coverage:
    """Kernels with and without a record.

    Args:
        tuned: kernels with a record.
        fallback: kernels that run their default schedule.
        mean_subnet_ms: sum of its kernels' times in a mean sampled subnet; None where not all are tuned: a sum of some
            would forecast nothing.
        fallback_calls: share of a mean subnet's calls that run a default schedule.
        expected_gap: how much longer a kernel takes with its default schedule, as a fraction: median of the tuned
            ones (single trials drift too much for a mean); None where no default was tried.
        kernels: the tuned kernels, the costliest first; their shares are of the time of these alone.
    """

    tuned: int
    fallback: int
    mean_subnet_ms: float | None
    fallback_calls: float
    expected_gap: float | None
    kernels: tuple[KernelShare, ...]

    def record(self) -> Record:
        """As a JSON object, without the kernels."""
        return {name: value for name, value in vars(self).items() if name != "kernels"}


def coverage(tuned: TunedSpace, resolutions: tuple[int, ...]) -> Coverage:
    """What is tuned of the kernels of some resolutions of a space."""
    log, kernels, frequencies = tuned.log, tuned.kernels(resolutions), tuned.frequencies(resolutions)
    times = {key: state.best_ms for key, state in log.kernels.items() if key in kernels and state.best_ms is not None}
    mean_ms = sum(frequencies[key] * milliseconds for key, milliseconds in times.items())
    shares = [
        KernelShare(
            kernel=key,
            best_ms=milliseconds,
            gflops_per_s=kernels[key].flops / milliseconds / 1e6,
            calls=frequencies[key],
            share=frequencies[key] * milliseconds / mean_ms,
            trials=log.kernels[key].trials,
            source=log.kernels[key].source,
        )
        for key, milliseconds in times.items()
    ]
    shares.sort(key=lambda share: -share.share)
    missing = sum(frequencies[key] for key in kernels if key not in times) / sum(frequencies.values())
    fallback = len(kernels) - len(times)
    return Coverage(
        len(times), fallback, None if fallback else mean_ms, missing, _expected_gap(log, frequencies), tuple(shares)
    )


def _expected_gap(log: TuningLog, frequencies: Mapping[str, float]) -> float | None:
    ratios = [
        state.default_ms / state.best_ms
        for key, state in log.kernels.items()
        if key in frequencies and state.best_ms is not None and state.default_ms is not None
    ]
    return median(ratios) - 1 if ratios else None
