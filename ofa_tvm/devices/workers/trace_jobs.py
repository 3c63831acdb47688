"""Trials of MetaSchedule's own candidates, in the same worker: what ours are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.trace_json import trace_from_json
from ofa_tvm.compiler.tvm_api.names import IRModule, Schedule, Target, load_tensor_intrinsics, ms, tvm
from ofa_tvm.graph.kernel import KernelSpec


def trace_trial(
    kernel: dict[str, Any],
    candidate: dict[str, Any],
    target: dict[str, Any],
    repeats: int,
    min_repeat_ms: int,
    best_ms: float | None,
) -> dict[str, Any]:
    """Build and time a trace, with its weights repacked. Its output is not checked, so it never wins in a log."""
    load_tensor_intrinsics()
    spec = KernelSpec(**kernel)
    schedule = Schedule(kernel_workload(spec))
    trace_from_json(candidate["trace"], spec).apply_to_schedule(schedule, remove_postproc=False)
    module = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(schedule.mod)
    rng = np.random.default_rng(0)
    arrays = [tvm.runtime.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in _shapes(module)]
    built = tvm.compile(module, target=Target(target))
    timer = built.mod.time_evaluator("main", tvm.cpu(), number=1, repeat=repeats, min_repeat_ms=min_repeat_ms)
    times_ms = [seconds * 1e3 for seconds in timer(*arrays).results]
    return {"status": "ok", "times_ms": times_ms}


def _shapes(module: IRModule) -> list[tuple[int, ...]]:
    infos = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=False)
    return [tuple(int(extent) for extent in info.shape) for info in infos]
