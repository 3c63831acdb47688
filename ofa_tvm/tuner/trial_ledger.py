"""The ledger of trials, ``trials.jsonl``: what a kernel's state follows from.

A batch is written to the ledger first. Each line has the number of its trial among the kernel's, so a log whose
writer was killed before the kernel's new state was written is mended: trials with higher numbers are counted then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, model_validator

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, last_records
from ofa_tvm.support.typed import Milliseconds, Positive, read_lines, validated
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.tally import TalliedFile
from ofa_tvm.tuner.trial import KernelState, SoundSchedule, TrialResult, TrialStatus

FILE_NAME = "trials.jsonl"


@dataclass(frozen=True)
class TrialRecord:
    """A line of the ledger: a candidate by its digest, and what became of it.

    ``number`` counts the kernel's trials, and is missing in lines of older versions; ``schedule`` is there if it won.
    """

    digest: str
    kernel: str
    source: str
    status: TrialStatus
    time_ms: Milliseconds | None
    is_checked: bool
    error: str
    number: Positive | None = None
    schedule: SoundSchedule | None = None

    @model_validator(mode="after")
    def _has_time(self) -> Self:
        if (self.status == "ok") != (self.time_ms is not None):
            raise ValueError("a trial that is ok, and no other, has a time")
        return self

    @property
    def result(self) -> TrialResult:
        """What it told."""
        return TrialResult(self.status, (self.time_ms,) if self.time_ms else (), self.error, self.is_checked)

    @classmethod
    def of(cls, state: KernelState, candidate: Candidate, result: TrialResult) -> TrialRecord:
        """A kernel's next trial.

        Args:
            state: the kernel's before the trial.
            candidate: what was tried.
            result: what came of it.
        """
        time_ms = result.best_ms
        wins = time_ms is not None and result.is_checked and (state.best_ms is None or time_ms < state.best_ms)
        return cls(
            digest=candidate.digest,
            kernel=candidate.kernel,
            number=state.trials + 1,
            source=candidate.source,
            status=result.status,
            time_ms=time_ms,
            is_checked=result.is_checked,
            error=result.error,
            schedule=candidate.schedule if wins else None,
        )

    def record(self) -> Record:
        """As a JSON object."""
        return {name: value for name, value in vars(self).items() if name != "schedule" or value is not None}

    def after(self, state: KernelState) -> KernelState:
        """The kernel's state after the trial."""
        failures, since_best = state.failures + (self.status != "ok"), state.since_best + 1
        state = replace(state, trials=self.number or state.trials + 1, since_best=since_best, failures=failures)
        if self.time_ms is not None and self.source == "default":
            state = replace(state, default_ms=self.time_ms)
        if self.schedule is None:
            return state
        return replace(state, best_ms=self.time_ms, since_best=0, schedule=self.schedule, source=self.source)


_TRIAL = TypeAdapter(TrialRecord)


def trial_records(folder: Path) -> list[TrialRecord]:
    """The ledger of trials in a log's folder.

    Raises:
        UserError: the file is damaged.
    """
    return read_lines(folder / FILE_NAME, "trial ledger", _TRIAL)


def tried_digests(folder: Path, is_held: bool) -> set[str]:
    """Digests of the candidates in a log's ledger.

    Args:
        folder: the log's.
        is_held: whether the caller holds it for writing.

    Raises:
        UserError: the file is damaged.
    """
    file = TalliedFile(folder / FILE_NAME, "trial ledger", _TRIAL)
    tried = {*file.entries, *(trial.digest for trial in file.values())}
    if is_held:
        file.keep(tried)
    return tried


def uncounted(folder: Path, states: Mapping[str, KernelState]) -> list[KernelState]:
    """States of kernels whose last trials are in a log's ledger alone.

    Args:
        folder: the log's.
        states: as they are known, by kernel.

    Raises:
        UserError: one of these trials is damaged.
    """
    path, trials = folder / FILE_NAME, list[TrialRecord]()
    for line in last_records(path):
        try:
            trial = validated(_TRIAL, line)
        except ValueError as error:
            raise UserError(f"a trial at the end of {path} is damaged: {error}", "remove it") from error
        if trial.number is None or (trial.kernel in states and trial.number <= states[trial.kernel].trials):
            break
        trials.append(trial)
    found: dict[str, KernelState] = {}
    for trial in reversed(trials):
        before = found.get(trial.kernel) or states.get(trial.kernel) or KernelState(trial.kernel)
        found[trial.kernel] = trial.after(before)
    return list(found.values())
