"""Jobs of the tuner's worker process: try one candidate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, generate
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.support.files import write_atomic
from ofa_tvm.tuner.drift import REFERENCE

TOLERANCE = 1e-4
BETTER = 0.99
"""A candidate replaces the best so far when it takes less than this much of its time, both measured in turn."""
Answer = dict[str, Any]
_INCUMBENTS: dict[str, KernelRunner] = {}
"""The best so far of each kernel that this process has tried."""


def object_cache(attributes: dict[str, Any]) -> ObjectCache:
    """The cache of a target's attributes, made once."""
    return _cache(json.dumps(attributes, sort_keys=True))


@lru_cache(maxsize=2)
def _cache(target: str) -> ObjectCache:
    return ObjectCache(json.loads(target))


@contextmanager
def stored_object(cache: ObjectCache, kernel: EmittedKernel) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A kernel's object file, and what keeps it in the cache; else it is gone afterwards, unless it was there."""
    kept = cache.path(kernel.spec, kernel.schedule)
    if kept.exists():
        yield kept, lambda: None
        return
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "kernel.o"
        generate(kernel, cache.target).write_to_file(str(code), "o")
        yield code, lambda: write_atomic(kept, code.read_bytes())


@lru_cache(maxsize=4)
def _inputs(spec: KernelSpec) -> list[Array]:
    return random_inputs(spec)


@lru_cache(maxsize=4)
def _expected(spec: KernelSpec) -> list[Array]:
    return compute(spec, _inputs(spec))


def relative_error(found: list[Array], expected: list[Array]) -> float:
    """Largest difference over the largest value, of all outputs."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(one - other).max() / max(1e-6, np.abs(other).max())) for one, other in pairs)


def trial(
    kernel: dict[str, Any],
    candidate: dict[str, Any],
    target: dict[str, Any],
    repeats: int,
    min_repeat_ms: int,
    best_ms: float | None,
    reference_ms: float | None = None,
) -> Answer:
    """Build and time a candidate; when it seems the fastest so far, time both in turn, and check its output.

    Args:
        kernel: the kernel.
        candidate: its schedule.
        target: TVM's target attributes.
        repeats: times to take.
        min_repeat_ms: how long each takes.
        best_ms: the fastest so far.
        reference_ms: what a reference kernel usually takes; it is timed in turn with the candidate, and the candidate's
            times are told at its usual speed. None: they are told as they are.

    Returns:
        ``status`` "ok" with ``times_ms`` (and ``reference_ms`` of now), and ``is_checked`` for a new best, whose object
        is kept; or "wrong_output" with ``error``.
    """
    spec, cache = KernelSpec(**kernel), object_cache(target)
    emitted = cache.kernel(spec, candidate)
    with stored_object(cache, emitted) as (code, keep):
        runner = KernelRunner(emitted, code, cache.features.cores)
        beside = None if reference_ms is None else (_reference(cache), reference_ms)
        answer = _timed(runner, _inputs(spec), repeats, min_repeat_ms, beside)
        answer = _judged(runner, spec, answer, repeats, min_repeat_ms, best_ms)
        if answer.get("is_checked"):
            keep()
    return answer


@lru_cache(maxsize=2)
def _reference(cache: ObjectCache) -> KernelRunner:
    kernel = cache.kernel(REFERENCE)
    return KernelRunner(kernel, cache.get(REFERENCE, kernel.schedule), cache.features.cores)


def _timed(
    runner: KernelRunner,
    inputs: list[Array],
    repeats: int,
    min_repeat_ms: int,
    beside: tuple[KernelRunner, float] | None,
) -> Answer:
    """Times of a kernel; where a reference kernel and its usual time are given, at that speed."""
    if beside is None:
        return {"status": "ok", "times_ms": runner.time_ms(inputs, repeats, min_repeat_ms)}
    reference, usual_ms = beside
    times_ms, references_ms = _in_turn(runner, inputs, reference, _inputs(REFERENCE), repeats, min_repeat_ms)
    now_ms = min(references_ms)
    return {"status": "ok", "times_ms": [usual_ms / now_ms * one for one in times_ms], "reference_ms": now_ms}


def _judged(
    runner: KernelRunner, spec: KernelSpec, answer: Answer, repeats: int, min_repeat_ms: int, best_ms: float | None
) -> Answer:
    """The answer, and for a kernel that beats the best so far whether its output is right."""
    if best_ms is not None and min(answer["times_ms"]) >= best_ms:
        return answer
    inputs = _inputs(spec)
    incumbent = _INCUMBENTS.get(spec.key) if best_ms is not None else None
    if incumbent is not None:
        mine, theirs = _in_turn(runner, inputs, incumbent, inputs, repeats, min_repeat_ms)
        if min(mine) >= BETTER * min(theirs):
            return answer
    error = relative_error(runner.run(inputs), _expected(spec))
    if not error < TOLERANCE:
        return {"status": "wrong_output", "error": f"differs from the reference by {error:.2g}"}
    _INCUMBENTS[spec.key] = runner
    return {**answer, "is_checked": True}


def _in_turn(
    one: KernelRunner,
    inputs: list[Array],
    other: KernelRunner,
    other_inputs: list[Array],
    repeats: int,
    min_repeat_ms: int,
) -> tuple[list[float], list[float]]:
    """Times of two kernels in turn: a machine that drifts does so for both."""
    rounds = [
        (one.time_ms(inputs, 1, min_repeat_ms)[0], other.time_ms(other_inputs, 1, min_repeat_ms)[0])
        for _ in range(repeats)
    ]
    return [mine for mine, _ in rounds], [theirs for _, theirs in rounds]


JOBS = {"trial": trial}
