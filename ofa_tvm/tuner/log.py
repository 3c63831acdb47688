"""The tuning log of one target and fingerprint: what was tried, what won, in files that survive a kill.

==================  ====================================================================================
``manifest.json``   conditions of all measurements in the folder, and the speed that times refer to
``kernels.jsonl``   one line per kernel and batch, the last one counts: best time, trials, winner
``trials.jsonl``    the ledger: one line per trial, so that nothing is measured twice (not shipped)
==================  ====================================================================================

A kernel's code follows from its key and its winner (``Candidate.schedule``), so nothing else is kept of it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from ofa_tvm.graph.kernel import KernelSchedule
from ofa_tvm.hardware.recording import MANIFEST, read_log_manifest
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, append_jsonl, home, write_atomic, write_json
from ofa_tvm.support.holding import held
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.support.signals import uninterrupted
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.tally import TalliedFile, remove_tally
from ofa_tvm.tuner.trial import KERNEL_STATE, KernelState, TrialResult
from ofa_tvm.tuner.trial_ledger import FILE_NAME as LEDGER
from ofa_tvm.tuner.trial_ledger import TrialRecord, tried_digests, uncounted

KERNELS = "kernels.jsonl"
VARIABLE = "OFA_TVM_LOGS"


def logs_root() -> Path:
    """Folder of all tuning logs that this installation writes: ``$OFA_TVM_LOGS``, or ``own_root()``."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else own_root()


def opened_log(target: TargetSpec, root: Path | None = None) -> TuningLog:
    """The log that a command reads; warns, once, where another folder of logs hides one that ships.

    Args:
        target: as for ``TuningLog``.
        root: likewise.

    Raises:
        UserError: likewise.
    """
    log = TuningLog(target, root)
    if log.hides_shipped:
        _warn_once(f"beware: {log.root_option} names {log.root}, so the logs that ship are not used")
    return log


@functools.cache
def _warn_once(message: str) -> None:
    warn(message)


def own_root() -> Path:
    """Where logs are written by default; a log that ships for a fingerprint is copied there before it grows.

    ``tuning_logs/local`` of a checkout, which git ignores, or a folder of the user's: never among the logs that ship,
    nor inside an installed package, which pip removes.
    """
    shipped = shipped_folder("tuning_logs")
    is_checkout = (shipped.parent / "pyproject.toml").is_file()
    if is_checkout and os.access(shipped, os.W_OK):
        return shipped / "local"
    return home() / ".local" / "share" / "ofa_tvm" / "tuning_logs"


def _is_own(root: Path) -> bool:
    try:
        return root.resolve() == own_root().resolve()
    except UserError:  # no home folder
        return False


def _folder(root: Path, target: TargetSpec) -> Path:
    """The folder of a fingerprint: the target's own, or that of another name for the same conditions."""
    log_folder = root / target.name / target.fingerprint
    others = sorted(root.glob(f"*/{target.fingerprint}/{MANIFEST}"))
    return log_folder if log_folder.exists() or not others else others[0].parent


class TuningLog:
    """Reads and appends the log of a target's fingerprint.

    A log that ships for the same fingerprint is read in place where ``own_root()`` has none yet; the first
    ``exclusive`` copies it there. ``folder`` is where the log is now.

    Args:
        target: the target, whose conditions must equal the folder's.
        root: folder of all logs (default: ``logs_root()``).

    Raises:
        UserError: a file is damaged, or the folder holds other conditions.
    """

    def __init__(self, target: TargetSpec, root: Path | None = None) -> None:
        self.root = root or logs_root()
        self._own = _folder(self.root, target)
        self._shipped = self._own
        if _is_own(self.root):
            self._shipped = _folder(shipped_folder("tuning_logs"), target)
        only_shipped = not (self._own / MANIFEST).exists() and (self._shipped / MANIFEST).exists()
        self.folder = self._shipped if only_shipped else self._own
        manifest = self.folder / MANIFEST
        mine = json.loads(json.dumps(target.conditions))
        if manifest.exists() and read_log_manifest(self.folder).conditions != mine:
            raise UserError(f"{manifest} states other conditions than target {target.name}", "move the folder away")
        self.hides_shipped = (
            not manifest.exists() and (_folder(shipped_folder("tuning_logs"), target) / MANIFEST).exists()
        )
        """Whether it is empty although a log ships for these conditions: another root hides that one."""
        self.target, self._conditions = target, target.conditions
        self.reference_ms: float | None = None
        self.kernels: dict[str, KernelState] = {}
        self._tried: set[str] | None = None
        self._read()

    @property
    def root_option(self) -> str:
        """What names the folder of logs where it is not ``own_root()``."""
        return VARIABLE if str(self.root) == os.environ.get(VARIABLE) else "--logs"

    def of_other_tvm(self) -> tuple[Path, str] | None:
        """A log of the same conditions but for TVM's version, and that version; None where there is none."""
        mine = _without_tvm(json.loads(json.dumps(self._conditions)))
        for root in dict.fromkeys((self.root, shipped_folder("tuning_logs"))):
            for path in sorted(root.glob(f"*/*/{MANIFEST}")):
                theirs = _conditions(path.parent)
                if theirs.get("tvm") != self._conditions["tvm"] and _without_tvm(theirs) == mine:
                    return path.parent, str(theirs.get("tvm"))
        return None

    def _read(self, is_held: bool = False) -> None:
        manifest = self.folder / MANIFEST
        self.reference_ms = read_log_manifest(self.folder).reference_ms if manifest.exists() else None
        self.kernels.update(kernel_states(self.folder, is_held))
        self._tried, self._is_held = None, is_held

    @property
    def tried(self) -> set[str]:
        """Digests of all candidates that were tried; the ledger is read when this is first asked for.

        Raises:
            UserError: the ledger is damaged.
        """
        if self._tried is None:
            self._tried = tried_digests(self.folder, self._is_held)
            # Shipped logs have no ledger, but what won there was tried.
            for key, state in self.kernels.items():
                if state.schedule is not None:
                    self._tried.add(Candidate(key, "donor", state.schedule).digest)
        return self._tried

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder for writing.

        Raises:
            UserError: another process holds it; the message names it. Or its times may not be stored.
        """
        self.target.stored_provenance()
        self._own.mkdir(parents=True, exist_ok=True)
        with held(self._own, "; or give this run logs of its own: --logs FOLDER"):
            self._adopt()
            self._read(is_held=True)  # what another process wrote before it let go of the folder
            self._count()
            if not (self.folder / MANIFEST).exists():
                self._write_manifest()
            try:
                yield
            finally:
                self._is_held = False

    def _count(self) -> None:
        """Add the states that follow from trials which a killed process did not count any more."""
        if states := uncounted(self.folder, self.kernels):
            append_jsonl(self.folder / KERNELS, [asdict(state) for state in states])
            self.kernels.update({state.kernel: state for state in states})

    def _write_manifest(self) -> None:
        manifest = {"schema_version": 1, "conditions": self._conditions, "reference_ms": self.reference_ms}
        write_json(self.folder / MANIFEST, manifest)

    def settle_reference(self, reference_ms: float) -> None:
        """Fix what the reference kernel takes: all times of this log are normalised to that speed."""
        self.reference_ms = reference_ms
        self._write_manifest()

    def retime(self, kernel: str, best: tuple[Candidate, TrialResult], default: TrialResult) -> None:
        """Replace what is known of a kernel's winner, and the time of its default schedule."""
        winner, result = best
        before = self.kernels[kernel]
        source = before.source if winner.schedule == before.schedule else winner.source
        state = replace(
            before,
            best_ms=result.best_ms,
            default_ms=default.best_ms,
            schedule=winner.schedule,
            source=source,
        )
        append_jsonl(self.folder / KERNELS, [asdict(state)])
        self.kernels[kernel] = state

    def _adopt(self) -> None:
        """Copy the shipped log into the user's folder, the manifest last: without it, the copy starts again."""
        if self.folder == self._own:
            return
        if not (self._own / MANIFEST).exists():
            ignore = shutil.ignore_patterns(MANIFEST, ".*")
            shutil.copytree(self._shipped, self._own, ignore=ignore, copy_function=shutil.copyfile, dirs_exist_ok=True)
            write_atomic(self._own / MANIFEST, (self._shipped / MANIFEST).read_bytes())
        self.folder = self._own

    def commit(self, kernel: str, results: Sequence[tuple[Candidate, TrialResult]]) -> KernelState:
        """Append a batch of trials of one kernel; returns the kernel's new state.

        Raises:
            UserError: the target's times may not be stored.
        """
        self.target.stored_provenance()
        state = self.kernels.get(kernel, KernelState(kernel))
        trials = []
        for candidate, result in results:
            trial = TrialRecord.of(state, candidate, result)
            trials.append(trial.record())
            state = trial.after(state)
            if self._tried is not None:
                self._tried.add(candidate.digest)
        # The ledger comes first: what a kill in between leaves out follows from it, see ``_count``.
        with uninterrupted():
            append_jsonl(self.folder / LEDGER, trials)
            append_jsonl(self.folder / KERNELS, [asdict(state)])
        self.kernels[kernel] = state
        return state

    @property
    def winners(self) -> dict[str, KernelSchedule]:
        """The fastest schedule of each kernel that has one."""
        return {key: state.schedule for key, state in self.kernels.items() if state.schedule is not None}

    def schedules_digest(self, kernels: Sequence[str]) -> str:
        """Identity of the schedules that a subnet of these kernels is built with now."""
        schedules = sorted({key: self.kernels[key].schedule for key in kernels if key in self.kernels}.items())
        return hashlib.sha256(json.dumps(schedules).encode()).hexdigest()[:16]

    def donors(self, unlike: Callable[[Record], list[float]] | None = None) -> dict[str, list[KernelSchedule]]:
        """Winning schedules of other fingerprints, by kernel: worth an early trial, never an answer.

        Args:
            unlike: from another log's conditions (empty where unknown); the least unlike log comes first.
        """
        not_donors = (self._own.resolve(), self._shipped.resolve())
        roots = dict.fromkeys((self.root.resolve(), shipped_folder("tuning_logs").resolve()))
        logs = [path.parent for root in roots for path in sorted(root.glob("*/*/kernels.jsonl"))]
        donors = [folder for folder in logs if folder not in not_donors]
        if unlike is not None:
            donors.sort(key=lambda folder: unlike(_conditions(folder)))
        schedules: dict[str, list[KernelSchedule]] = {}
        for folder in donors:
            for key, schedule in winners(folder).items():
                if schedule not in schedules.get(key, []):
                    schedules.setdefault(key, []).append(schedule)
        return schedules

    def prune(self) -> None:
        """Keep the last line of each kernel and drop the ledger: what is shipped."""
        lines = "".join(json.dumps(asdict(state)) + "\n" for state in self.kernels.values())
        write_atomic(self.folder / KERNELS, lines)
        (self.folder / LEDGER).unlink(missing_ok=True)
        for name in (KERNELS, LEDGER):
            remove_tally(self.folder / name)


def winners(folder: Path) -> dict[str, KernelSchedule]:
    """The fastest schedule of each kernel in a log's folder; none where nothing was tuned yet."""
    states = kernel_states(folder)
    return {key: state.schedule for key, state in states.items() if state.schedule is not None}


def best_times(folder: Path) -> dict[str, float]:
    """The best time in ms of each tuned kernel in a log's folder."""
    path = folder / "kernels.jsonl"
    states = kernel_states(folder) if path.exists() else {}
    return {key: state.best_ms for key, state in states.items() if state.best_ms is not None}


def _conditions(folder: Path) -> Record:
    """Conditions under which a log was measured; empty where a kill left no manifest."""
    return read_log_manifest(folder).conditions if (folder / MANIFEST).exists() else {}


def _without_tvm(conditions: Record) -> Record:
    return {name: value for name, value in conditions.items() if name != "tvm"}


def kernel_states(folder: Path, is_held: bool = False) -> dict[str, KernelState]:
    """What a log's folder knows of each kernel: its last line.

    Args:
        folder: the log's folder.
        is_held: whether the caller holds it for writing.

    Raises:
        UserError: the file is damaged.
    """
    file = TalliedFile(folder / KERNELS, "tuning log", KERNEL_STATE)
    states = {state.kernel: state for state in map(KERNEL_STATE.validate_json, file.entries)}
    states |= {state.kernel: state for state in file.values()}
    if is_held:
        file.keep(json.dumps(asdict(state)) for state in states.values())
    return states
