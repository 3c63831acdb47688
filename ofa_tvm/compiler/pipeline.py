"""From a network and its weights to an executable: apply schedules, repack weights, generate code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.default_schedule import schedule_by_default
from ofa_tvm.compiler.quiet import without_chatter
from ofa_tvm.compiler.relax_builder import build_relax
from ofa_tvm.compiler.tvm_import import IRModule, Target, ms, relax, tvm
from ofa_tvm.errors import UserError
from ofa_tvm.kernels import network_kernels
from ofa_tvm.network import NetworkSpec
from ofa_tvm.weights import Weights

Database = Any
Executable = Any

LINKER = "g++"


def extract_kernels(module: IRModule, network: NetworkSpec, target: Target, batch: int = 1) -> dict[str, IRModule]:
    """The workloads that MetaSchedule extracts from a module of ``build_relax``, by kernel key.

    Raises:
        KeyError: the module holds a kernel that the network does not have.
    """
    keys = {spec.symbol: spec.key for _, spec in network_kernels(network, batch)}
    tasks = ms.relax_integration.extract_tasks(module, target)
    return {keys[task.task_name]: task.dispatched[0] for task in tasks}


def default_database(target: Target) -> Database:
    """A database that answers every workload with its default schedule."""
    return ms.database.ScheduleFnDatabase(lambda schedule: schedule_by_default(schedule, target))


def apply_schedules(module: IRModule, target: Target, database: Database | None = None) -> IRModule:
    """Schedule every kernel of a module from ``build_relax`` and repack its weights.

    Args:
        module: the module.
        target: what the code is for.
        database: a MetaSchedule database of that target alone (TVM ignores the target of a record); kernels without a
            record get their default schedule.
    """
    default = default_database(target)
    databases = default if database is None else ms.database.OrderedUnionDatabase(database, default)
    with target, databases, tvm.transform.PassContext(opt_level=3):
        scheduled = relax.transform.MetaScheduleApplyDatabase()(module)
        split = relax.transform.SplitLayoutRewritePreproc()(scheduled)
        return relax.transform.FoldConstant()(split)


def build(module: IRModule, target: Target) -> Executable:
    """Generate code for a scheduled module."""
    return tvm.compile(module, target)


def compile_network(
    network: NetworkSpec, weights: Weights, target: Target, database: Database | None = None, batch: int = 1
) -> Executable:
    """Compile a subnet.

    Args:
        network: the subnet.
        weights: folded weights, see ``ofa_tvm.weights``.
        target: what the code is for; an ``llvm`` target carries ``num-cores``.
        database: tuning records of that target, see ``apply_schedules``.
        batch: images per call.

    Returns:
        A VM executable for ``LoadedModel`` or ``export``.
    """
    return build(apply_schedules(build_relax(network, weights, batch), target, database), target)


def export(executable: Executable, path: Path) -> None:
    """Write an executable as one shared library of this machine's architecture.

    Raises:
        UserError: there is no ``g++`` to link it with.
    """
    if shutil.which(LINKER) is None:
        raise UserError(f"{path} cannot be linked: {LINKER} is not installed", "install it, e.g. apt install g++")
    with without_chatter():
        executable.export_library(str(path), fcompile=tvm.support.cc.create_shared, cc=LINKER)
