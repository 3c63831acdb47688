"""A device that answers from recorded trials, so that tuning runs whole, in seconds and without a compiler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import SerialDevice
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.latency_records import LatencyRecord, every_record, has_reference
from ofa_tvm.tuner.log import kernel_states
from ofa_tvm.tuner.trial import TrialResult
from ofa_tvm.tuner.trial_ledger import trial_records

MAC_PER_MS = 1e7


class ReplayDevice(SerialDevice):
    """Answers trials with recorded results; what it answers is never stored as measured.

    Args:
        recorded: results by digest of the candidate, or by kernel and "default".
        otherwise: makes the result of a candidate that was not recorded (``made_up_result``, say); without it such a
            trial fails.
        timings: of whole subnets, by space, number of classes and key of the subnet.
    """

    def __init__(
        self,
        recorded: Mapping[str, TrialResult],
        otherwise: Callable[[KernelSpec, Candidate], TrialResult] | None = None,
        timings: Mapping[tuple[str, int, str], SubnetTiming] | None = None,
    ) -> None:
        self._recorded, self._otherwise, self._timings = recorded, otherwise, timings or {}
        self.calls: Counter[str] = Counter()

    @classmethod
    def from_log(cls, folder: Path) -> Self:
        """The recording that a tuning log's folder holds.

        That is each kernel's winner and default schedule, all trials where the log has a ledger (one that ships has
        none), and whole subnets.

        Raises:
            UserError: a file is damaged or has a line of an unknown form.
        """
        results: dict[str, TrialResult] = {}
        for key, state in kernel_states(folder).items():
            if state.default_ms is not None:
                results[_default(key)] = TrialResult("ok", (state.default_ms,), is_checked=True)
            if state.schedule is not None and state.best_ms is not None:
                winner = Candidate(key, "donor", state.schedule)
                results[winner.digest] = TrialResult("ok", (state.best_ms,), is_checked=True)
        results |= {trial.digest: trial.result for trial in trial_records(folder)}
        return cls(results, timings=dict(map(_timing, filter(has_reference, every_record(folder)))))

    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """The recorded result of a candidate."""
        self.calls[candidate.digest] += 1
        result = self._recorded.get(candidate.digest)
        if result is None and candidate.source == "default":
            result = self._recorded.get(_default(spec.key))
        if result is not None:
            return result
        if self._otherwise is not None:
            return self._otherwise(spec, candidate)
        return TrialResult("failed", error="this candidate is not in the recording")

    def start(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to end."""

    def subnets(self, space: SearchSpace) -> list[SubnetConfig]:
        """The subnets of a space whose latency is recorded, the only ones that can be asked for."""
        keys = [key for name, classes, key in self._timings if (name, classes) == (space.name, space.classes)]
        return [SubnetConfig.parse(key) for key in keys]

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """What is recorded of subnets."""
        missing = SubnetTiming("failed", error="this subnet is not in the recording")
        return [self._timings.get((subnets.space, subnets.classes, key), missing) for key in subnets.keys]


def replay_device(target: TargetSpec) -> ReplayDevice:
    """The device that answers from a target's recording.

    Raises:
        UserError: the recording is damaged, or the target has none.
    """
    if target.recording is None:
        raise UserError(f"target {target.name} names no recording", "use --device replay:FOLDER")
    return ReplayDevice.from_log(Path(target.recording.folder))


def _default(kernel: str) -> str:
    return f"default {kernel}"


def made_up_result(spec: KernelSpec, candidate: Candidate) -> TrialResult:
    """A valid result whose time follows from the kernel's MACs and the candidate's digest alone."""
    slowness = 1 + int(candidate.digest[:8], 16) / 0xFFFFFFFF
    time_ms = slowness * (1 + spec.macs) / MAC_PER_MS
    return TrialResult("ok", (time_ms,), is_checked=True)


def _timing(record: LatencyRecord) -> tuple[tuple[str, int, str], SubnetTiming]:
    """The subnet of a latency record, and its timing."""
    classes = record.classes or get_space(record.space).classes
    timing = SubnetTiming(
        record.status, record.times_ms, record.reference_ms, error=record.error, energy_mj=record.energy_mj
    )
    return (record.space, classes, record.subnet), timing
