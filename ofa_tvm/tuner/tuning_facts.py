"""What a tuning log says of the kernels of a space, in short: for a result that is read without the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.tuner.coverage import KernelShare, coverage
from ofa_tvm.tuner.trial_ledger import FILE_NAME, trial_records
from ofa_tvm.tuner.tuned_space import TunedSpace

COSTLIEST = 25
MOST_BYTES = 32 << 20
"""Of a ledger that is read, about 100,000 trials."""
AT_TRIALS = (1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class TuningPoint:
    """After so many trials of each kernel, a mean subnet took this times the time that it takes now."""

    trials: int
    times_final: float


@dataclass(frozen=True)
class TuningFacts:
    """Tuning of a space's kernels.

    Args:
        folder: of the log.
        tuned: kernels with a record.
        fallback: kernels that run their default schedule.
        fallback_calls: share of a mean subnet's calls that do.
        expected_gap: how much longer a kernel takes by its default schedule, as a fraction; None where not tried.
        mean_subnet_ms: sum of its kernels' times in a mean subnet; None where not all are tuned.
        trials: of all tuned kernels.
        kernels: the costliest first, ``COSTLIEST`` at most.
        progress: quality over trials, of the kernels whose trials the log still holds.
        progress_share: of a mean subnet's time that these kernels take.
    """

    folder: str
    tuned: int
    fallback: int
    fallback_calls: float
    expected_gap: float | None
    mean_subnet_ms: float | None
    trials: int
    kernels: tuple[KernelShare, ...] = ()
    progress: tuple[TuningPoint, ...] = ()
    progress_share: float = 0.0


def tuning_facts(tuned: TunedSpace, resolutions: tuple[int, ...]) -> TuningFacts:
    """What the log says of the kernels of some resolutions of a space."""
    known = coverage(tuned, resolutions)
    times = _times_of_trials(tuned.log.folder)
    shares = {kernel.kernel: kernel.share for kernel in known.kernels if kernel.kernel in times}
    return TuningFacts(
        folder=str(tuned.log.folder),
        tuned=known.tuned,
        fallback=known.fallback,
        fallback_calls=known.fallback_calls,
        expected_gap=known.expected_gap,
        mean_subnet_ms=known.mean_subnet_ms,
        trials=sum(kernel.trials for kernel in known.kernels),
        kernels=known.kernels[:COSTLIEST],
        progress=progress(times, shares),
        progress_share=sum(shares.values()),
    )


def progress(times: Mapping[str, list[float | None]], shares: Mapping[str, float]) -> tuple[TuningPoint, ...]:
    """Quality over trials: the best so far over the best of all, weighted by the kernels' shares.

    Args:
        times: of each kernel's trials in order, in ms; None for one that failed.
        shares: of a mean subnet's time that each kernel takes.
    """
    curves = {key: _best_so_far(times[key]) for key in shares}
    curves = {key: curve for key, curve in curves.items() if curve}
    most, whole = max(map(len, curves.values()), default=0), sum(shares[key] for key in curves)
    points = []
    for trials in [*(count for count in AT_TRIALS if count < most), *([most] if most else [])]:
        slower = sum(shares[key] * curve[min(trials, len(curve)) - 1] / curve[-1] for key, curve in curves.items())
        points.append(TuningPoint(trials, slower / whole))
    return tuple(points)


def _best_so_far(times_ms: list[float | None]) -> list[float]:
    """From the first trial that succeeded on."""
    best: list[float] = []
    for time_ms in times_ms:
        if time_ms is not None:
            best.append(min(time_ms, best[-1]) if best else time_ms)
        elif best:
            best.append(best[-1])
    return best


def _times_of_trials(folder: Path) -> dict[str, list[float | None]]:
    """By kernel; nothing where the ledger is so long that reading it would keep the user waiting."""
    path = folder / FILE_NAME
    if not path.exists() or path.stat().st_size > MOST_BYTES:
        return {}
    times: dict[str, list[float | None]] = {}
    for trial in trial_records(folder):
        times.setdefault(trial.kernel, []).append(trial.time_ms if trial.is_checked else None)
    return times
