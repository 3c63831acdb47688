"""Tuning by packs: take the results of one into the log, then build the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ofa_tvm.devices.pack.reader import Imported, import_kernels
from ofa_tvm.devices.pack.writer import PackWriter, export_kernels
from ofa_tvm.measurement.latency_bench import MAX_FAILURES, MIN_MEASURED, LatencyBench
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.console import Task, log, warn
from ofa_tvm.support.errors import NotTuned, UserError
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.candidate_sources import candidate_sources
from ofa_tvm.tuner.latency_records import read_records
from ofa_tvm.tuner.loop import Budget
from ofa_tvm.tuner.tuned_space import TunedSpace
from ofa_tvm.tuner.urgency import urgency


@dataclass(frozen=True)
class PackOrder:
    """What is tuned: as for ``Tuner``; ``batch`` is how many candidates of a kernel a pack holds.

    ``subnets`` are measured besides ``samples`` random ones. Where there are any, the pack holds no candidates: new
    winners would make their latencies obsolete.
    """

    tuned: TunedSpace
    resolutions: tuple[int, ...]
    budget: Budget
    batch: int | None = None
    transfer: bool = False
    seed: int = 0
    samples: int = 0
    subnets: Sequence[SubnetConfig] = ()


@dataclass(frozen=True)
class Exported:
    """A pack that was built, and how many candidates and subnets could not be."""

    folder: str
    entries: int
    kernels: int
    subnets: int
    size_bytes: int
    failures: int


@dataclass(frozen=True)
class PackRound:
    """What was done with packs.

    Args:
        folder: of the log.
        imported: what was taken into it; None where that was not asked.
        exported: what was built; likewise.
        cost_model: how good the latency model is, where latencies of subnets were imported.
    """

    folder: str
    imported: Imported | None = None
    exported: Exported | None = None
    cost_model: Record | None = None

    def record(self) -> Record:
        """As a JSON object, with what was asked for."""
        record = {name: value for name, value in asdict(self).items() if value is not None}
        return record | ({"cost_model": self.cost_model} if self.imported is not None else {})


def run_packs(order: PackOrder, import_from: Path | None, export_to: Path | None) -> PackRound:
    """Import a pack, export the next one, or both.

    Raises:
        UserError: neither was asked for, or a pack cannot be used.
    """
    target, tuning_log = order.tuned.target, order.tuned.log
    if import_from is None and export_to is None:
        raise UserError(
            f"target {target.name} is measured elsewhere, by packs",
            "build one: --export-pack FOLDER; its README.txt says what to do then",
        )
    if target.device != "pack":
        raise UserError(f"--device {target.device} needs no pack", "leave out --device, or the pack")
    imported = report = None
    with tuning_log.exclusive():
        if import_from is not None:
            imported = import_kernels(import_from, target, tuning_log)
            report = _latency_report(order.tuned) if imported.subnets else None
        exported = None if export_to is None else _export(order, export_to)
    return PackRound(str(tuning_log.folder), imported, exported, report)


def pack_subnets(tuned: TunedSpace, subnets: Sequence[SubnetConfig], folder: Path) -> Exported:
    """Build a pack of subnets alone; returns what it holds.

    Raises:
        UserError: the folder cannot be used, or the target is not measured by packs.
    """
    nothing = Budget(trials=0, seconds=None, trials_per_kernel=1)
    order = PackOrder(tuned, tuned.space.resolutions, nothing, subnets=subnets)
    exported = run_packs(order, None, folder).exported
    assert exported is not None
    return exported


def _export(order: PackOrder, folder: Path) -> Exported:
    tuning_log, target, most = order.tuned.log, order.tuned.target, order.budget.trials_per_kernel
    kernels, frequencies = order.tuned.kernels(order.resolutions), order.tuned.frequencies(order.resolutions)
    batch = order.batch or target.tuning.batch
    sources = candidate_sources(target, kernels, tuning_log, order.transfer, order.seed)
    keys = urgency(kernels, frequencies, tuning_log.kernels, most, batch)

    def ask(key: str) -> Sequence[Candidate]:
        state = tuning_log.kernels.get(key)
        left = most - (state.trials if state else 0)
        return sources(kernels[key]).ask(min(batch, left))

    with PackWriter(target, folder) as writer:
        failures = export_kernels(writer, tuning_log, kernels, keys, ask, 0 if order.subnets else order.budget.trials)
        failures += _add_subnets(order, writer)
        pack = writer.finish()
    return Exported(**(asdict(pack) | {"folder": str(pack.folder)}), failures=failures)


def _add_subnets(order: PackOrder, writer: PackWriter) -> int:
    """Named subnets, and random ones that are not measured with today's schedules; how many could not be built."""
    with Task("building subnets", len(order.subnets) + order.samples) as task:
        return _add_some(order, writer, task)


def _add_some(order: PackOrder, writer: PackWriter, task: Task) -> int:
    tuned = order.tuned
    records = read_records(tuned.log.folder, tuned.space.name, tuned.own_classes)
    measured = {(record.subnet, record.schedules) for record in records if record.status == "ok"}
    space, rng = tuned.space.with_resolutions(order.resolutions), np.random.default_rng(order.seed)
    added = failures = 0
    tried: set[str] = set()
    for config in order.subnets:
        tried.add(config.key)
        failures += _add_subnet(tuned, writer, config, tuned.schedules(config))
        task.advance(note=config.key)
    while added < order.samples and len(tried) < space.cardinality and not writer.is_full and failures < MAX_FAILURES:
        (config,) = space.sample_configs(rng, 1)
        schedules = tuned.schedules(config)
        if config.key in tried or (config.key, schedules) in measured:
            tried.add(config.key)
            continue
        tried.add(config.key)
        failed = _add_subnet(tuned, writer, config, schedules)
        failures, added = failures + failed, added + (not failed)
        task.advance(not failed, note=config.key)
    if added < order.samples:
        log(f"{added} of {order.samples} subnets are in the pack")
    return failures


def _add_subnet(tuned: TunedSpace, writer: PackWriter, config: SubnetConfig, schedules: str) -> bool:
    """Whether a subnet could not be built into the pack."""
    problem = writer.add_subnet(tuned.space, config, tuned.log.folder, schedules)
    if problem:
        warn(f"{config.key} could not be built: {problem}")
    return bool(problem)


def _latency_report(tuned: TunedSpace) -> Record | None:
    """Fit the latency model where enough subnets are known by now."""
    try:
        bench = LatencyBench(tuned, None)
        return bench.fit_and_save() if len(bench.known()[0]) >= MIN_MEASURED else None
    except NotTuned as error:
        log(f"no latency model yet: {error.what}")
        return None
