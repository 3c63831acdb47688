"""A device that answers from recorded trials, so that tuning runs whole, in seconds and without a compiler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_jsonl
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import SerialDevice
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import kernel_states
from ofa_tvm.tuner.trial import TrialResult

MAC_PER_MS = 1e7
DAMAGED = "restore the recording from a copy"


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
                results[_default(key)] = _timed(state.default_ms, folder / "kernels.jsonl", key)
            if state.schedule is not None and state.best_ms is not None:
                winner = Candidate(key, "donor", state.schedule)
                results[winner.digest] = _timed(state.best_ms, folder / "kernels.jsonl", key)
        path = folder / "trials.jsonl"
        try:
            for line in read_jsonl(path, "trial ledger"):
                results[str(line["digest"])] = _result(line, path)
            path = folder / "latency.jsonl"
            return cls(results, timings=dict(_timing(line, path) for line in read_jsonl(path, "latency records")))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} has a line without {error}, or of another form", DAMAGED) from error

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


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _timed(time_ms: Any, path: Path, what: str) -> TrialResult:
    if not _is_time(time_ms):
        raise UserError(f"{path} has no time that can be of {what}: {time_ms}", DAMAGED)
    return TrialResult("ok", (time_ms,), is_checked=True)


def _timing(line: Record, path: Path) -> tuple[tuple[str, int, str], SubnetTiming]:
    """The subnet of a latency record, and its timing."""
    classes = line.get("classes") or get_space(line["space"]).classes
    times, references = line["times_ms"], line["reference_ms"]
    is_sound = isinstance(line["subnet"], str) and (line["status"] != "ok" or len(times) == len(references) > 0)
    if not is_sound or not all(map(_is_time, [*times, *references])):
        raise UserError(f"{path} has a record of {line['subnet']} that cannot be", DAMAGED)
    timing = SubnetTiming(line["status"], tuple(times), tuple(references), error=line["error"])
    return (line["space"], classes, line["subnet"]), timing


def _result(line: Record, path: Path) -> TrialResult:
    """The result of a ledger line."""
    if line["time_ms"] is None:
        return TrialResult(line["status"], error=line["error"])
    timed = _timed(line["time_ms"], path, line["kernel"])
    return replace(timed, status=line["status"], error=line["error"], is_checked=line["is_checked"])
