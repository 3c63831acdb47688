"""Jobs of the tuner's worker process: try one candidate."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, object_code
from ofa_tvm.graph.bfloat16 import beyond_steps, widened
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.hardware.target import Tuning
from ofa_tvm.support.made_again import keep, usable
from ofa_tvm.support.system_errors import naming
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob
from ofa_tvm.tuner.trial import TrialResult

TOLERANCE = 1e-4
EXACT = 1e-12
BFLOAT16_TOLERANCE = 2e-3
"""Beyond a step of bfloat16 in each number: in an expanded map, single numbers are rounded to the other neighbour, and
each moves an output by a step times its weight."""
FLOAT16_TOLERANCE = 2e-3
"""Of a float16 kernel, and a step of float16 (2 to the power of -10, at most) times the square root of how many
products a sum adds up."""
BETTER = 0.99
"""A candidate replaces the best so far when it takes less than this share of its time, both measured in turn."""


@contextmanager
def stored_object(cache: ObjectCache, kernel: EmittedKernel) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A kernel's object file, and a function that keeps it in the cache; a new one is removed unless it is kept."""
    kept = cache.path(kernel.spec, kernel.schedule)
    if usable(kept):
        yield kept, lambda: None
        return
    content = object_code(kernel, cache.target)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder) / "kernel.o"
        with naming(code):
            code.write_bytes(content)
        yield code, lambda: keep(kept, content)


def wrong_output(difference: float) -> TrialResult:
    """The result of a kernel whose output differs by too much."""
    return TrialResult("wrong_output", error=f"differs from numpy by {difference:.2g}")


def relative_error(found: list[Array], expected: list[Array]) -> float:
    """Largest difference over the largest value, of all outputs; of bfloat16, what is beyond one step."""
    pairs = zip(found, expected, strict=True)
    return max(
        float(beyond_steps(output, other).max() / max(1e-6, np.abs(widened(other)).max())) for output, other in pairs
    )


def tolerance(kernel: KernelSpec) -> float:
    """The difference that a kernel may show: int8 kernels none."""
    if kernel.dtype == "float16":
        return FLOAT16_TOLERANCE + 2.0**-10 * math.sqrt(_products(kernel))
    return {"int8": EXACT, "bfloat16": BFLOAT16_TOLERANCE}.get(kernel.dtype, TOLERANCE)


def _products(kernel: KernelSpec) -> int:
    """Of what one sum after another adds up in float16, as far as an output depends on it."""
    window = kernel.kernel_size**2
    match kernel.kind:
        case "conv":
            return window * kernel.in_channels // kernel.groups
        case "depthwise":
            return window
        case "expand_depthwise":
            return kernel.in_channels + window
    return 0


class KernelJobs:
    """Trials of kernels, and what a trial keeps for the next: inputs, right outputs, and each kernel's best so far."""

    def __init__(self) -> None:
        self._incumbents: dict[str, KernelRunner] = {}
        self._references: dict[Path, KernelRunner] = {}
        self._inputs = lru_cache(maxsize=4)(random_inputs)
        self._expected = lru_cache(maxsize=4)(lambda spec: compute(spec, self._inputs(spec)))

    def trial(self, job: KernelJob) -> TrialResult:
        """Build and time a kernel; when it seems the fastest so far, time both in turn, and check its output.

        The object of a new best is kept.
        """
        cache = ObjectCache(job.target.attributes)
        emitted = cache.kernel(job.kernel, job.schedule)
        with stored_object(cache, emitted) as (code, keep):
            runner = KernelRunner(emitted, code, cache.features.cores)
            result = self._judged(runner, job, self._timed(runner, job, cache))
            if result.is_checked:
                keep()
        return result

    def _reference(self, cache: ObjectCache) -> KernelRunner:
        kernel = cache.kernel(REFERENCE)
        code = cache.get(REFERENCE, kernel.schedule)
        if code not in self._references:
            self._references[code] = KernelRunner(kernel, code, cache.features.cores)
        return self._references[code]

    def _timed(self, runner: KernelRunner, job: KernelJob, cache: ObjectCache) -> TrialResult:
        """Times of a kernel; where a reference kernel's usual time is given, at that speed."""
        inputs, timed = self._inputs(job.kernel), job.target.tuning
        if job.reference_ms is None:
            return TrialResult("ok", tuple(runner.time_ms(inputs, timed.repeats, timed.min_repeat_ms)))
        reference = self._reference(cache)
        times_ms, references_ms = _in_turn(runner, inputs, reference, self._inputs(REFERENCE), timed)
        now_ms = min(references_ms)
        usual = tuple(job.reference_ms / now_ms * time_ms for time_ms in times_ms)
        return TrialResult("ok", usual, reference_ms=now_ms)

    def _judged(self, runner: KernelRunner, job: KernelJob, result: TrialResult) -> TrialResult:
        """The result, and for a kernel that beats the best so far whether its output is right."""
        if job.best_ms is not None and min(result.times_ms) >= job.best_ms:
            return result
        inputs = self._inputs(job.kernel)
        incumbent = self._incumbents.get(job.kernel.key) if job.best_ms is not None else None
        if incumbent is not None:
            times_ms, incumbents_ms = _in_turn(runner, inputs, incumbent, inputs, job.target.tuning)
            if min(times_ms) >= BETTER * min(incumbents_ms):
                return result
        difference = relative_error(runner.run(inputs), self._expected(job.kernel))
        if not difference < tolerance(job.kernel):
            return wrong_output(difference)
        self._incumbents[job.kernel.key] = runner
        return replace(result, is_checked=True)


def _in_turn(
    kernel: KernelRunner, inputs: list[Array], other: KernelRunner, other_inputs: list[Array], timed: Tuning
) -> tuple[list[float], list[float]]:
    """Times of two kernels in turn: a machine that drifts does so for both."""
    length_ms = timed.min_repeat_ms
    rounds = [
        (kernel.time_ms(inputs, 1, length_ms)[0], other.time_ms(other_inputs, 1, length_ms)[0])
        for _ in range(timed.repeats)
    ]
    return [first for first, _ in rounds], [second for _, second in rounds]
