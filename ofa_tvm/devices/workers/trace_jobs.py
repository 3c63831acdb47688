"""Trials of MetaSchedule's own candidates, in the same worker, for comparison with ours."""

from __future__ import annotations

import numpy as np

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.trace_json import trace_from_json
from ofa_tvm.compiler.tvm_api.names import IRModule, Schedule, Target, load_tensor_intrinsics, ms, tvm
from ofa_tvm.tuner.job import KernelJob
from ofa_tvm.tuner.trial import TrialResult


def trace_trial(job: KernelJob) -> TrialResult:
    """Build and time a trace, with its weights repacked. Its output is not checked, so it never wins in a log."""
    load_tensor_intrinsics()
    schedule, timed = Schedule(kernel_workload(job.kernel)), job.target.tuning
    trace_from_json(job.schedule["trace"], job.kernel).apply_to_schedule(schedule, remove_postproc=False)
    module = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(schedule.mod)
    rng = np.random.default_rng(0)
    arrays = [tvm.runtime.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in _shapes(module)]
    built = tvm.compile(module, target=Target(job.target.attributes))
    timer = built.mod.time_evaluator(
        "main", tvm.cpu(), number=1, repeat=timed.repeats, min_repeat_ms=timed.min_repeat_ms
    )
    return TrialResult("ok", tuple(seconds * 1e3 for seconds in timer(*arrays).results))


def _shapes(module: IRModule) -> list[tuple[int, ...]]:
    infos = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=False)
    return [tuple(int(extent) for extent in info.shape) for info in infos]
