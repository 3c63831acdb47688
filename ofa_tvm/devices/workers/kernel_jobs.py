"""Jobs of the tuner's worker process: try one candidate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import OBJECT_BYTES, ObjectCache, generate
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.support.files import write_atomic
from ofa_tvm.support.host_faults import require_space
from ofa_tvm.tuner.drift import REFERENCE

TOLERANCE = 1e-4
BETTER = 0.99
"""A candidate replaces the best so far when it takes less than this much of its time, both measured in turn."""
Answer = dict[str, Any]


@contextmanager
def stored_object(cache: ObjectCache, kernel: EmittedKernel) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A kernel's object file, and what keeps it in the cache; else it is gone afterwards, unless it was there."""
    kept = cache.path(kernel.spec, kernel.schedule)
    if kept.exists():
        yield kept, lambda: None
        return
    require_space(OBJECT_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "kernel.o"
        generate(kernel, cache.target).write_to_file(str(code), "o")
        yield code, lambda: write_atomic(kept, code.read_bytes())


def relative_error(found: list[Array], expected: list[Array]) -> float:
    """Largest difference over the largest value, of all outputs."""
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(output - other).max() / max(1e-6, np.abs(other).max())) for output, other in pairs)


class KernelJobs:
    """Trials of kernels, and what one keeps for the next: inputs, right outputs, and the best so far of each kernel."""

    def __init__(self) -> None:
        self._incumbents: dict[str, KernelRunner] = {}
        self._references: dict[str, KernelRunner] = {}
        self._inputs = lru_cache(maxsize=4)(random_inputs)
        self._expected = lru_cache(maxsize=4)(lambda spec: compute(spec, self._inputs(spec)))

    def trial(
        self,
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
            reference_ms: what a reference kernel usually takes; it is timed in turn with the candidate, and the
                candidate's times are told at its usual speed. None: they are told as they are.

        Returns:
            ``status`` "ok" with ``times_ms`` (and ``reference_ms`` of now), and ``is_checked`` for a new best, whose
            object is kept; or "wrong_output" with ``error``.
        """
        spec, cache = KernelSpec(**kernel), ObjectCache(target)
        emitted = cache.kernel(spec, candidate)
        with stored_object(cache, emitted) as (code, keep):
            runner = KernelRunner(emitted, code, cache.features.cores)
            beside = None if reference_ms is None else (self._reference(cache), reference_ms)
            answer = self._timed(runner, self._inputs(spec), repeats, min_repeat_ms, beside)
            answer = self._judged(runner, spec, answer, repeats, min_repeat_ms, best_ms)
            if answer.get("is_checked"):
                keep()
        return answer

    def _reference(self, cache: ObjectCache) -> KernelRunner:
        kernel = cache.kernel(REFERENCE)
        code = cache.get(REFERENCE, kernel.schedule)
        if code.name not in self._references:
            self._references[code.name] = KernelRunner(kernel, code, cache.features.cores)
        return self._references[code.name]

    def _timed(
        self,
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
        times_ms, references_ms = _in_turn(runner, inputs, reference, self._inputs(REFERENCE), repeats, min_repeat_ms)
        now_ms = min(references_ms)
        return {
            "status": "ok",
            "times_ms": [usual_ms / now_ms * time_ms for time_ms in times_ms],
            "reference_ms": now_ms,
        }

    def _judged(
        self,
        runner: KernelRunner,
        spec: KernelSpec,
        answer: Answer,
        repeats: int,
        min_repeat_ms: int,
        best_ms: float | None,
    ) -> Answer:
        """The answer, and for a kernel that beats the best so far whether its output is right."""
        if best_ms is not None and min(answer["times_ms"]) >= best_ms:
            return answer
        inputs = self._inputs(spec)
        incumbent = self._incumbents.get(spec.key) if best_ms is not None else None
        if incumbent is not None:
            mine, theirs = _in_turn(runner, inputs, incumbent, inputs, repeats, min_repeat_ms)
            if min(mine) >= BETTER * min(theirs):
                return answer
        error = relative_error(runner.run(inputs), self._expected(spec))
        if not error < TOLERANCE:
            return {"status": "wrong_output", "error": f"differs from the reference by {error:.2g}"}
        self._incumbents[spec.key] = runner
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
