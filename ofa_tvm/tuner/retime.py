"""Time the winners of a log again, all at the same speed of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from ofa_tvm.compiler.cpu.emit import default_schedule
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetAttributes
from ofa_tvm.support.console import Task
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.log import TuningLog


def retime(log: TuningLog, device: Device, kernels: Mapping[str, KernelSpec], target: TargetAttributes) -> int:
    """Replace the times of tuned kernels and of their default schedules; returns how many could be timed.

    Winner and default schedule are timed in turn, and a faster default becomes the winner: among many candidates, a
    lucky one may have won.

    Args:
        log: held exclusively by the caller; each kernel is appended as it is timed.
        device: what runs trials.
        kernels: those to time, by key.
        target: TVM's target attributes.
    """
    features = cpu_features(Target(target))
    tuned = [key for key in kernels if key in log.kernels and log.kernels[key].schedule is not None]
    done = 0
    with Task("timing winners again", len(tuned)) as task:
        for key in tuned:
            state = log.kernels[key]
            assert state.schedule is not None
            winner = Candidate(key, "donor", state.schedule)
            default = Candidate(key, "default", default_schedule(kernels[key], features))
            won, usual = device.trials(kernels[key], [winner, default], None)
            if won.is_checked:
                log.retime(key, (default, usual) if usual.is_checked else (winner, won), usual)
                done += 1
            task.advance(note=f"{key} {won.status}")
    return done
