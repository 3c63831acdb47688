"""Folders that say what was done in them: what it cost, for which target, and the networks that came of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ofa_tvm.bundle.folder import load_manifest
from ofa_tvm.bundle.manifest import FORMAT
from ofa_tvm.bundle.told import bundle_inference
from ofa_tvm.nas.result import FILE_NAME, Pick, SearchResult, load_search_result
from ofa_tvm.support.amounts import Amount
from ofa_tvm.support.dtype import DTYPE_SUFFIX, DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_json
from ofa_tvm.support.ledger import Cost, Ledger, other_attempt, total
from ofa_tvm.timing.inference import Inference, Told
from ofa_tvm.tuner.log import kernel_states

Stage = Literal["train", "tune", "search", "deploy"]
STAGES: tuple[Stage, ...] = ("train", "tune", "search", "deploy")
LEDGER, MANIFEST = "ledger.jsonl", "manifest.json"
ELSEWHERE = ("rpc", "pack")
"""Devices that work without this machine's ledger seeing what they draw."""
_FOLDER = "folder of a search, a training, a tuning log or a bundle"
_PRECISION = re.compile(rf"(?<=-)(\d+t-b\d+)-(?:{'|'.join(filter(None, DTYPE_SUFFIX.values()))})(?=-|$)")
_HASH = re.compile(r"-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Delivered:
    """A network that came of the work.

    Args:
        subnet: its key.
        target: name of its target.
        dtype: its precision; None in results of older versions.
        fingerprint: of the target in that precision.
        space: that it is from.
        parameters: trainable numbers.
        kernels: distinct kernels that it calls; None where that is not said.
        inference: what a call takes; None where no latency is known, or the device's power is not.
        unknown: why not; empty where it is.
    """

    subnet: str
    target: str
    dtype: DType | None
    fingerprint: str
    space: str
    parameters: int
    kernels: int | None
    inference: Inference | None
    unknown: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What is the same network on the same target, whichever folder tells of it."""
        return self.space, self.subnet, self.fingerprint

    @property
    def where(self) -> str:
        """Target and precision, for a person."""
        return ", ".join(filter(None, [self.target, self.dtype]))


@dataclass(frozen=True)
class LedgerFolder:
    """What a folder says.

    Args:
        stage: of the work.
        path: the folder.
        costs: phase by phase.
        has_copies: costs may be copied from ledgers of other folders.
        space: what was searched or deployed; None where the folder does not say it, or holds several.
        target: fingerprint of the target, without hash and precision; None of a training.
        elsewhere: the device's own energy is not counted, because it is not this machine.
        kernels: tuned or tried, of a tuning log.
        delivered: networks.
    """

    stage: Stage
    path: Path
    costs: tuple[Cost, ...]
    has_copies: bool = False
    space: str | None = None
    target: str | None = None
    elsewhere: bool = False
    kernels: int = 0
    delivered: tuple[Delivered, ...] = ()

    def of_spaces(self, spaces: set[str]) -> tuple[Cost, ...]:
        """Costs without those phases of a log that name another space; all, where none is asked for."""
        if self.stage != "tune" or not spaces:
            return self.costs
        return tuple(cost for cost in self.costs if spaces & set(cost.phase.split()))

    def tuning_a_kernel(self) -> Amount | None:
        """Energy that trials of one kernel took, the mean over a log's; None where it is no log, or an empty one."""
        trials = [cost for cost in self.costs if cost.phase.startswith("tune")]
        if self.stage != "tune" or not self.kernels or not trials:
            return None
        return total("tune", trials).watt_hours.times(1 / self.kernels)


def read_folders(paths: Iterable[Path], watts: float | None = None) -> list[LedgerFolder]:
    """Read folders, each once; of one that is none of the known ones, its subfolders.

    Args:
        paths: the folders.
        watts: what the device draws while it infers, if it was metered.

    Raises:
        UserError: a folder says nothing, or a file is damaged.
    """
    found: dict[Path, LedgerFolder] = {}
    for path in paths:
        own = _read(path, watts)
        parts = [part for child in _children(path) if (part := _read(child, watts)) is not None]
        if own is not None and own.stage == "search":  # in several precisions: the picks are those of all together
            parts = [replace(part, delivered=()) if part.stage == "search" else part for part in parts]
        for one in [*([] if own is None else [own]), *parts]:
            found.setdefault(one.path.resolve(), one)
        if own is None and not parts:
            what = "does not exist" if not path.exists() else f"is no {_FOLDER}"
            raise UserError(f"{path} {what}", f"name the {_FOLDER}; a training's holds {LEDGER}")
    return list(found.values())


def search_costs(folder: Path, result: SearchResult) -> tuple[Cost, ...]:
    """What a search took by its own account, and other attempts in its folder by the ledger there.

    A search in several precisions has a ledger in the folder of each.

    Raises:
        UserError: a ledger is damaged.
    """
    if not result.cost:
        return tuple(Ledger(folder / LEDGER).costs())
    told = {cost.work for cost in result.cost}
    parts = {f"{dtype}: ": folder / dtype for dtype in result.fingerprints} or {"": folder}
    others = [
        replace(cost, phase=f"{prefix}{other_attempt(cost.phase)}")
        for prefix, part in parts.items()
        for cost in Ledger(part / LEDGER).costs()
        if cost.work not in told
    ]
    return (*others, *result.cost)


def target_of(fingerprint: str) -> str:
    """What the fingerprints of one target in all its precisions have in common."""
    return _PRECISION.sub(r"\1", _HASH.sub("", fingerprint))


def _children(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _read(path: Path, watts: float | None) -> LedgerFolder | None:
    if (path / FILE_NAME).is_file():
        return _search(path, watts)
    if (path / MANIFEST).is_file():
        manifest = read_json(path / MANIFEST, "manifest")
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            return _bundle(path, watts)
        if isinstance(manifest, dict) and isinstance(conditions := manifest.get("conditions"), dict):
            costs = tuple(Ledger(path / LEDGER).costs())
            elsewhere = conditions.get("device") in ELSEWHERE
            kernels = len(kernel_states(path))
            target = target_of(path.resolve().name)
            return LedgerFolder("tune", path, costs, target=target, elsewhere=elsewhere, kernels=kernels)
    if (path / LEDGER).is_file():
        return LedgerFolder("train", path, tuple(Ledger(path / LEDGER).costs()))
    return None


def _search(path: Path, watts: float | None) -> LedgerFolder:
    run = load_search_result(path)
    return LedgerFolder(
        "search",
        path,
        search_costs(path, run),
        has_copies=bool(run.fingerprints),
        space=run.space,
        target=target_of(run.fingerprint),
        elsewhere=run.conditions.get("device") in ELSEWHERE,
        delivered=tuple(_picked(run, pick, watts) for pick in run.picks),
    )


def _picked(run: SearchResult, pick: Pick, watts: float | None) -> Delivered:
    attributes, shape = run.conditions.get("target", {}), (run.threads, run.batch or 1)
    told = Told(pick.verified_ms, pick.measured_ms is not None, pick.timing, run.percentile)
    return Delivered(
        pick.subnet,
        run.target,
        pick.dtype or run.dtype,
        run.fingerprint if pick.dtype is None else run.fingerprints.get(pick.dtype, run.fingerprint),
        run.space,
        pick.parameters,
        None,
        *Inference.of(told, shape, watts or pick.watts, attributes),
    )


def _bundle(path: Path, watts: float | None) -> LedgerFolder:
    manifest = load_manifest(path)
    target, latency = manifest.target, manifest.latency
    one = Delivered(
        manifest.subnet,
        target.name,
        manifest.dtype,
        target.fingerprint,
        manifest.space,
        manifest.parameters,
        target.tuned_kernels + target.default_kernels,
        *bundle_inference(manifest, watts),
    )
    return LedgerFolder(
        "deploy",
        path,
        manifest.cost,
        has_copies=True,
        space=manifest.space,
        target=target_of(target.fingerprint),
        elsewhere=latency.conditions.get("device") in ELSEWHERE,
        delivered=(one,),
    )
