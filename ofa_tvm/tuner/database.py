"""From a tuning log to the in-memory database that the compiler asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ofa_tvm.compiler.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_import import ms
from ofa_tvm.kernels import KernelSpec


def load_database(kernels: Iterable[KernelSpec], records: dict[str, Any]) -> Any:
    """A MetaSchedule database with the records of the given kernels.

    Args:
        kernels: the kernels that will be compiled; others are left out, which keeps loading quick.
        records: TVM's JSON of the best record by kernel key (``TuningLog.best_records``).
    """
    database = ms.database.MemoryDatabase()
    for kernel in {kernel.key: kernel for kernel in kernels}.values():
        if kernel.key in records:
            workload = database.commit_workload(kernel_workload(kernel))
            database.commit_tuning_record(ms.database.TuningRecord.from_json(records[kernel.key], workload))
    return database
