"""Jobs of a board's worker process: build here, run there."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.rpc.session import NEEDED, Board, BoardRequest, HeldBoard
from ofa_tvm.devices.workers.kernel_jobs import relative_error, stored_object, tolerance, wrong_output
from ofa_tvm.devices.workers.subnet_jobs import SubnetJobs, time_in_turn
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob, SubnetJob, SubnetTiming
from ofa_tvm.tuner.trial import TrialResult, require_times

BESIDE_REPEATS = 2
"""How often a reference kernel is timed right before a kernel, and right after it."""


@dataclass(frozen=True)
class Answered:
    """A board's answer: what it reports about itself, or the figures of a window, where asked for."""

    facts: Record = field(default_factory=dict)
    figures: tuple[float, ...] = ()
    status: str = "ok"


class BoardJobs:
    """What is done on a board: built here, run there. The board is held from one job to the next."""

    def __init__(self) -> None:
        self._held = HeldBoard()
        self._subnets = SubnetJobs()
        self._reference: tuple[Path, bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def ping(self, request: BoardRequest) -> Record:
        """Whether there is a board."""

        def use(board: Board) -> Answered:
            board.require(NEEDED[0])
            return Answered()

        return self._held.use(request, use)

    def connect(self, request: BoardRequest) -> Record:
        """Check that a board's server has what is needed; returns its facts."""

        def use(board: Board) -> Answered:
            for name in NEEDED:
                board.require(name)
            return Answered(board.facts(request.access))

        return self._held.use(request, use)

    def trial(self, request: BoardRequest, job: KernelJob, with_reference: bool = False) -> Record:
        """Build a kernel, time it on a board and, if it seems the fastest so far, check its output.

        "crashed" or "timed_out" where that happened to the kernel, and the board lives. ``beside_ms`` is what a
        reference kernel took, the slower of before and after, where that is asked for.
        """
        cache = ObjectCache(job.target.attributes)
        emitted = cache.kernel(job.kernel, job.schedule)
        inputs, program = random_inputs(job.kernel), KernelProgram(emitted, cache.features.cores)
        with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, keep):
            library = Path(name) / "kernel.so"
            program.build(code, inputs, job.target.toolchain.linker, library, standalone=False)

            def use(board: Board) -> TrialResult | Record:
                if not with_reference:
                    return _measure(board, library, program, inputs, job)
                before_ms = self._beside_ms(board, job)
                result = _measure(board, library, program, inputs, job)
                return {**asdict(result), "beside_ms": max(before_ms, self._beside_ms(board, job))}

            answer = self._held.use(request, use)
            if answer.get("is_checked"):
                keep()
        return answer

    def _beside_ms(self, board: Board, job: KernelJob) -> float:
        """What a reference kernel takes on a board now."""
        if self._reference is None:
            cache, inputs = ObjectCache(job.target.attributes), random_inputs(REFERENCE)
            program = KernelProgram(cache.kernel(REFERENCE), cache.features.cores)
            library, code = Path(self._folder.name) / "reference.so", cache.get(REFERENCE, program.kernel.schedule)
            program.build(code, inputs, job.target.toolchain.linker, library, standalone=False)
            self._reference = library, program.inputs(inputs)
        library, data = self._reference
        module, tensor = board.kept_kernel(library, data)
        least_us = 1000 * job.target.tuning.min_repeat_ms
        times_ms = _times_ms(board, lambda seconds: int(module["time"](tensor, seconds, least_us)), BESIDE_REPEATS)
        if isinstance(times_ms, int):
            raise OfaTvmError(f"the reference kernel does not run on the board: {_ended(times_ms).error}")
        return min(times_ms)

    def time_subnet(self, request: BoardRequest, job: SubnetJob) -> Record:
        """Assemble a job's one subnet, and time it on a board; see ``workers.subnet_jobs``."""
        subnets, reference = self._subnets.assembled(job), self._subnets.reference(job)

        def use(board: Board) -> SubnetTiming:
            (timing,) = time_in_turn(subnets, reference, board.model, job.plan)
            return timing

        return self._held.use(request, use)

    def classify(self, request: BoardRequest, library: Path, images: Path, logits: Path) -> Record:
        """Run a subnet's library on any number of images (a .npy file) and write the logits (another)."""

        def use(board: Board) -> Answered:
            model, images_read = board.kept_model(library), np.load(images)
            padded = np.concatenate(
                [images_read, np.zeros((-len(images_read) % model.batch, *images_read.shape[1:]), np.float32)]
            )
            batches = np.split(padded, len(padded) // model.batch)
            np.save(logits, np.concatenate([model(batch) for batch in batches])[: len(images_read)])
            return Answered()

        return self._held.use(request, use)

    def time_model(self, request: BoardRequest, library: Path, images: Path, window_ms: float) -> Record:
        """Time a window of a subnet's library, loaded anew, on images of one call (a .npy file)."""

        def use(board: Board) -> Answered:
            return Answered(figures=tuple(board.model(library).window(np.load(images), window_ms)))

        return self._held.use(request, use)


def _measure(board: Board, library: Path, program: KernelProgram, inputs: list[Array], job: KernelJob) -> TrialResult:
    timed = job.target.tuning
    module = board.load(library)
    tensor = board.tensor(np.frombuffer(program.inputs(inputs), np.uint8))
    least_us = 1000 * timed.min_repeat_ms
    times_ms = _times_ms(board, lambda seconds: int(module["time"](tensor, seconds, least_us)), timed.repeats)
    if isinstance(times_ms, int):
        return _ended(times_ms)
    result = TrialResult("ok", times_ms)
    if job.best_ms is not None and min(result.times_ms) >= job.best_ms:
        return result
    outputs = board.tensor(np.zeros(program.output_bytes, np.uint8))
    if error := int(module["run"](tensor, outputs)):
        return _ended(error)
    difference = relative_error(program.outputs(outputs.numpy().tobytes()), compute(job.kernel, inputs))
    return replace(result, is_checked=True) if difference < tolerance(job.kernel) else wrong_output(difference)


def _times_ms(board: Board, run: Callable[[object], int], repeats: int) -> tuple[float, ...] | int:
    """Times of a kernel, or the error with which its process on the board ended.

    Args:
        board: where it runs.
        run: fills a tensor on the board with the seconds of each repeat; returns an error, or 0.
        repeats: how many.

    Raises:
        ValueError: what the board says cannot be: a call is part of what took the time that passed here.
    """
    seconds = board.tensor(np.zeros(repeats))
    start = time.monotonic()
    if error := run(seconds):
        return error
    passed_ms = 1e3 * (time.monotonic() - start)
    times_ms = tuple(1e3 * float(value) for value in seconds.numpy())
    require_times(times_ms, "a kernel's time")
    if sum(times_ms) > passed_ms:
        raise ValueError(f"calls of {sum(times_ms):g} ms cannot have been made within {passed_ms:g} ms")
    return times_ms


def _ended(error: int) -> TrialResult:
    """The result where the kernel's process on the board ended with an error; see ``kernel_program.c``."""
    if error > 0:
        return TrialResult("failed", error=f"the board says: {os.strerror(error)}")
    if -error == signal.SIGALRM:
        return TrialResult("timed_out", error="the board ended it: it took too long")
    name = signal.Signals(-error).name
    hint = ": the board's CPU lacks an instruction that the target's mcpu has" if -error == signal.SIGILL else ""
    return TrialResult("crashed", error=f"killed by {name} on the board{hint}")


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    board_jobs = BoardJobs()
    return {
        "ping": board_jobs.ping,
        "connect": board_jobs.connect,
        "trial": board_jobs.trial,
        "time_subnet": board_jobs.time_subnet,
        "classify": board_jobs.classify,
        "time_model": board_jobs.time_model,
    }
