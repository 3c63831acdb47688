"""Jobs of the tuner's worker process: try one candidate."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ofa_tvm.compiler.default_schedule import default_schedule
from ofa_tvm.compiler.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_import import IRModule, Schedule, Target, load_tensor_intrinsics, ms, tvm
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.tuner.templates import TEMPLATES
from ofa_tvm.tuner.trace_json import record_to_json, trace_from_json

load_tensor_intrinsics()

TOLERANCE = 1e-4
Answer = dict[str, Any]


def make_schedule(spec: KernelSpec, candidate: dict[str, Any], target: Target) -> Schedule:
    """The schedule that a candidate's data describe, with weights repacked where a template wants it."""
    workload = kernel_workload(spec)
    if "trace" in candidate:
        schedule = Schedule(workload)
        trace_from_json(candidate["trace"], spec).apply_to_schedule(schedule, remove_postproc=False)
        return schedule
    if "template" in candidate:
        schedule = TEMPLATES[candidate["template"]].schedule(workload, spec, candidate["parameters"])
    else:
        schedule = default_schedule(workload, target)
    _repack_weights(schedule, workload, target)
    return schedule


def _repack_weights(schedule: Schedule, workload: IRModule, target: Target) -> None:
    """TVM's own layout rewrite: weights are stored in the order in which the schedule reads them."""
    context = ms.TuneContext(mod=workload, target=target, space_generator="post-order-apply", task_name="main")
    rewrite = ms.postproc.RewriteLayout()
    rewrite._initialize_with_tune_context(context)
    rewrite.apply(schedule)


@lru_cache(maxsize=4)
def reference(spec: KernelSpec) -> tuple[list[np.ndarray], np.ndarray]:
    """Random inputs of a kernel and what the unscheduled kernel makes of them."""
    workload = kernel_workload(spec)
    rng = np.random.default_rng(0)
    *shapes, output = argument_shapes(workload)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return inputs, _run(workload, Target({"kind": "llvm"}), inputs, output)


def argument_shapes(module: IRModule) -> list[tuple[int, ...]]:
    """Shapes of a kernel's arguments, the output last."""
    infos = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=False)
    return [tuple(int(extent) for extent in info.shape) for info in infos]


def _run(module: IRModule, target: Target, inputs: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    built = tvm.compile(module, target=target)
    arrays = [tvm.runtime.tensor(array) for array in inputs]
    output = tvm.runtime.tensor(np.zeros(shape, dtype=np.float32))
    built["main"](*arrays, output)
    result: np.ndarray = output.numpy()
    return result


def trial(
    kernel: dict[str, Any],
    candidate: dict[str, Any],
    target: dict[str, Any],
    repeats: int,
    min_repeat_ms: int,
    best_ms: float | None,
) -> Answer:
    """Build, time and, when it is the fastest so far, check a candidate.

    Returns:
        ``status`` "ok" with ``times_ms``, and for a new best also TVM's ``record``; or
        "wrong_output" with ``error``.
    """
    spec = KernelSpec(**kernel)
    tvm_target = Target(target)
    schedule = make_schedule(spec, candidate, tvm_target)
    times_ms = _time(schedule.mod, tvm_target, repeats, min_repeat_ms)
    answer: Answer = {"status": "ok", "times_ms": times_ms}
    if best_ms is not None and min(times_ms) >= best_ms:
        return answer
    inputs, expected = reference(spec)
    output = _run(schedule.mod, tvm_target, inputs, expected.shape)
    error = float(np.abs(output - expected).max() / max(1e-6, np.abs(expected).max()))
    if not error < TOLERANCE:
        return {"status": "wrong_output", "error": f"differs from the unscheduled kernel by {error:.2g}"}
    seconds = [milliseconds / 1e3 for milliseconds in times_ms]
    return {**answer, "error_relative": error, "record": record_to_json(schedule.trace, spec, seconds, tvm_target)}


def _time(module: IRModule, target: Target, repeats: int, min_repeat_ms: int) -> list[float]:
    """Milliseconds of each repeat, with weights already repacked (as they are in a deployed model)."""
    module = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    rng = np.random.default_rng(0)
    arrays = [tvm.runtime.tensor(rng.standard_normal(shape).astype(np.float32)) for shape in argument_shapes(module)]
    built = tvm.compile(module, target=target)
    timer = built.mod.time_evaluator("main", tvm.cpu(), number=1, repeat=repeats, min_repeat_ms=min_repeat_ms)
    return [seconds * 1e3 for seconds in timer(*arrays).results]


JOBS = {"trial": trial}
