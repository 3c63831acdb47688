"""Tuning by packs: take the results of one into the log, then build the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.lowering import kernel_calls
from ofa_tvm.devices.pack.reader import import_kernels
from ofa_tvm.devices.pack.writer import PackWriter, export_kernels
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.known_latencies import own_classes
from ofa_tvm.measurement.latency_bench import FEWEST, MOST_FAILURES, LatencyBench
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import PartialResult, UserError
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.candidate_sources import candidate_sources
from ofa_tvm.tuner.latency_records import read_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget
from ofa_tvm.tuner.urgency import urgency


@dataclass(frozen=True)
class PackOrder:
    """What is tuned: as for ``Tuner``; ``batch`` is how many candidates of a kernel a pack holds.

    ``subnets`` are measured besides ``samples`` random ones. Where there are any, the pack holds no candidates: new
    winners would make their latencies obsolete.
    """

    space: SearchSpace
    target: TargetSpec
    log: TuningLog
    kernels: Mapping[str, KernelSpec]
    frequencies: Mapping[str, float]
    budget: Budget
    batch: int | None
    transfer: bool
    seed: int
    samples: int
    resolutions: tuple[int, ...]
    subnets: Sequence[SubnetConfig] = ()


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
            done["cost_model"] = _latency_report(order) if done["imported"]["subnets"] else None
        if export_to is not None:
            done["exported"] = _export(order, export_to)
    done["folder"] = str(order.log.folder)
    return done


def pack_subnets(
    space: SearchSpace, target: TargetSpec, tuning_log: TuningLog, subnets: Sequence[SubnetConfig], folder: Path
) -> dict[str, Any]:
    """Build a pack of subnets alone; what it holds.

    Raises:
        UserError: the folder cannot be used, or the target is not measured by packs.
    """
    nothing = Budget(trials=0, seconds=None, trials_per_kernel=1)
    order = PackOrder(space, target, tuning_log, {}, {}, nothing, None, False, 0, 0, space.resolutions, subnets)
    exported: dict[str, Any] = run_packs(order, None, folder)["exported"]
    return exported


def _export(order: PackOrder, folder: Path) -> dict[str, Any]:
    own, most = order.log, order.budget.trials_per_kernel
    batch = order.batch or order.target.tuning.batch
    sources = candidate_sources(order.target, order.kernels, own, order.transfer, order.seed)
    keys = urgency(order.kernels, order.frequencies, own.kernels, most, batch)

    def ask(key: str) -> Sequence[Candidate]:
        state = own.kernels.get(key)
        left = most - (state.trials if state else 0)
        return sources(order.kernels[key]).ask(min(batch, left))

    with PackWriter(order.target, folder) as writer:
        failures = export_kernels(writer, own, order.kernels, keys, ask, 0 if order.subnets else order.budget.trials)
        failures += _add_subnets(order, writer)
        pack = writer.finish()
    return {**asdict(pack), "folder": str(pack.folder), "failures": failures}


def _schedules(order: PackOrder, config: SubnetConfig) -> str:
    kernels = kernel_calls(order.space.network(config), order.target)
    return order.log.schedules_digest([kernel.key for kernel in kernels])


def _add_subnets(order: PackOrder, writer: PackWriter) -> int:
    """Named subnets, and random ones that are not measured with today's schedules; how many could not be built."""
    records = read_records(order.log.folder, order.space.name, own_classes(order.space))
    known = {(record.subnet, record.schedules) for record in records if record.status == "ok"}
    space, rng = order.space.with_resolutions(order.resolutions), np.random.default_rng(order.seed)
    added = failures = 0
    tried: set[str] = set()
    for config in order.subnets:
        tried.add(config.key)
        failures += _add_subnet(order, writer, config, _schedules(order, config))
    while added < order.samples and len(tried) < space.cardinality and not writer.is_full and failures < MOST_FAILURES:
        (config,) = space.sample_configs(rng, 1)
        schedules = _schedules(order, config)
        if config.key in tried or (config.key, schedules) in known:
            tried.add(config.key)
            continue
        tried.add(config.key)
        failed = _add_subnet(order, writer, config, schedules)
        failures, added = failures + failed, added + (not failed)
    if added < order.samples:
        log(f"{added} of {order.samples} subnets are in the pack")
    return failures


def _add_subnet(order: PackOrder, writer: PackWriter, config: SubnetConfig, schedules: str) -> bool:
    """Whether a subnet could not be built into the pack."""
    problem = writer.add_subnet(order.space, config, order.log.folder, schedules)
    if problem:
        log(f"{config.key} could not be built: {problem}")
    return bool(problem)


def _latency_report(order: PackOrder) -> dict[str, Any] | None:
    """Fit the latency model where enough subnets are known by now."""
    try:
        bench = LatencyBench(order.space, order.target, order.log, None)
        return bench.report() if len(bench.known()[0]) >= FEWEST else None
    except PartialResult as error:
        log(f"no latency model yet: {error.what}")
        return None
