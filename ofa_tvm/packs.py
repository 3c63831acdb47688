"""Tuning by packs: take the results of one into the log, then build the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ofa_tvm.devices.pack import PackWriter, export_kernels
from ofa_tvm.devices.pack_import import import_kernels
from ofa_tvm.errors import UserError
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.targets import TargetSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.choose_sources import candidate_sources
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, urgency


@dataclass(frozen=True)
class PackOrder:
    """What is tuned: as for ``Tuner``; ``batch`` is how many candidates of a kernel a pack holds."""

    space: SearchSpace
    target: TargetSpec
    log: TuningLog
    kernels: Mapping[str, KernelSpec]
    frequencies: Mapping[str, float]
    budget: Budget
    batch: int | None
    transfer: bool
    seed: int


def run_packs(order: PackOrder, import_from: Path | None, export_to: Path | None) -> dict[str, Any]:
    """Import a pack, export the next one, or both.

    Returns:
        ``imported`` and ``exported``, as far as that was asked for.

    Raises:
        UserError: neither was, or a pack cannot be used.
    """
    if import_from is None and export_to is None:
        raise UserError(
            f"target {order.target.name} is measured elsewhere, by packs",
            "build one: --export-pack FOLDER; its README.txt says what to do then",
        )
    if order.target.device != "pack":
        raise UserError(f"--device {order.target.device} needs no pack", "leave out --device, or the pack")
    done: dict[str, Any] = {}
    with order.log.exclusive():
        if import_from is not None:
            done["imported"] = asdict(import_kernels(import_from, order.target, order.log))
        if export_to is not None:
            done["exported"] = _export(order, export_to)
    done["folder"] = str(order.log.folder)
    return done


def _export(order: PackOrder, folder: Path) -> dict[str, Any]:
    log, most = order.log, order.budget.trials_per_kernel
    batch = order.batch or order.target.tuning.batch
    sources = candidate_sources(order.target, order.kernels, log, order.transfer, order.seed)
    keys = urgency(order.kernels, order.frequencies, log.kernels, most, batch)

    def ask(key: str) -> Sequence[Candidate]:
        state = log.kernels.get(key)
        left = most - (state.trials if state else 0)
        return sources(order.kernels[key]).ask(min(batch, left))

    with PackWriter(order.target, folder) as writer:
        failures = export_kernels(writer, log, order.kernels, keys, ask, order.budget.trials)
        pack = writer.finish()
    return {**asdict(pack), "folder": str(pack.folder), "failures": failures}
