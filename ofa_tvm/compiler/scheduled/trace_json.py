"""Schedule traces as JSON, in the form of TVM's own tuning records.

TVM writes that form only into files of its JSON database, so one is written and read back.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_api.names import Target, ms
from ofa_tvm.graph.kernel import KernelSpec


def record_to_json(trace: Any, spec: KernelSpec, seconds: Sequence[float], target: Target) -> Any:
    """A tuning record (trace, run times in seconds, target, arguments) of a kernel."""
    workload = kernel_workload(spec)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("workload.json", "record.json")]
        database = ms.database.JSONDatabase(path_workload=paths[0], path_tuning_record=paths[1])
        arguments = ms.arg_info.ArgInfo.from_entry_func(workload, remove_preproc=True)
        committed = database.commit_workload(workload)
        database.commit_tuning_record(ms.database.TuningRecord(trace, committed, list(seconds), target, arguments))
        _, record = json.loads(Path(paths[1]).read_text())
    return record


def trace_from_json(trace: Any, spec: KernelSpec) -> Any:
    """The trace of a record's JSON (its first entry)."""
    workload = ms.database.Workload(kernel_workload(spec))
    return ms.database.TuningRecord.from_json([trace, None, None, None], workload).trace
