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

from ofa_tvm.compiler.emit import EmittedKernel
from ofa_tvm.compiler.kernel_runner import KernelRunner
from ofa_tvm.compiler.objects import ObjectCache, generate
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.reference import Array, compute, random_inputs
from ofa_tvm.storage import write_atomic

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
) -> Answer:
    """Build and time a candidate; when it seems the fastest so far, time both in turn, and check its output.

    Returns:
        ``status`` "ok" with ``times_ms``, and ``is_checked`` for a new best, whose object is kept; or "wrong_output"
        with ``error``.
    """
    spec, cache = KernelSpec(**kernel), object_cache(target)
    emitted = cache.kernel(spec, candidate)
    with stored_object(cache, emitted) as (code, keep):
        answer = _measure(emitted, code, cache.features.cores, repeats, min_repeat_ms, best_ms)
        if answer.get("is_checked"):
            keep()
    return answer


def _measure(
    kernel: EmittedKernel, code: Path, tasks: int, repeats: int, min_repeat_ms: int, best_ms: float | None
) -> Answer:
    runner, inputs, key = KernelRunner(kernel, code, tasks), _inputs(kernel.spec), kernel.spec.key
    answer: Answer = {"status": "ok", "times_ms": runner.time_ms(inputs, repeats, min_repeat_ms)}
    if best_ms is not None and min(answer["times_ms"]) >= best_ms:
        return answer
    incumbent = _INCUMBENTS.get(key) if best_ms is not None else None
    if incumbent is not None and not _is_faster(runner, incumbent, inputs, repeats, min_repeat_ms):
        return answer
    error = relative_error(runner.run(inputs), _expected(kernel.spec))
    if not error < TOLERANCE:
        return {"status": "wrong_output", "error": f"differs from the reference by {error:.2g}"}
    _INCUMBENTS[key] = runner
    return {**answer, "is_checked": True}


def _is_faster(one: KernelRunner, other: KernelRunner, inputs: list[Array], repeats: int, min_repeat_ms: int) -> bool:
    """Whether a kernel is faster than another when both are timed in turn: a machine that drifts does not decide."""
    rounds = [(one.time_ms(inputs, 1, min_repeat_ms), other.time_ms(inputs, 1, min_repeat_ms)) for _ in range(repeats)]
    return min(mine for (mine,), _ in rounds) < BETTER * min(theirs for _, (theirs,) in rounds)


JOBS = {"trial": trial}
