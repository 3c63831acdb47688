"""Time the winners of a log again, all at the same speed of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from ofa_tvm.console import Task
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import TrialDevice


def retime(log: TuningLog, device: TrialDevice, kernels: Mapping[str, KernelSpec]) -> int:
    """Replace the times of tuned kernels and of their default schedules; returns how many could be timed.

    Args:
        log: held exclusively by the caller; each kernel is appended as it is timed.
        device: what runs trials.
        kernels: those to time, by key.
    """
    tuned = [key for key in kernels if key in log.kernels and log.kernels[key].schedule is not None]
    done = 0
    with Task("timing winners again", len(tuned)) as task:
        for key in tuned:
            schedule = log.kernels[key].schedule
            assert schedule is not None
            candidates = [Candidate(key, "donor", schedule), Candidate(key, "default", {})]
            winner, default = device.trials(kernels[key], candidates, None)
            if winner.best_ms is not None and winner.is_checked:
                log.retime(key, winner.best_ms, default.best_ms)
                done += 1
            task.advance(note=f"{key} {winner.status}")
    return done
