"""Jobs of a board's worker process: build here, run there."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.rpc.session import NEEDED, Board, BoardRequest, HeldBoard
from ofa_tvm.devices.workers.kernel_jobs import relative_error, stored_object, tolerance, wrong_output
from ofa_tvm.devices.workers.subnet_jobs import SubnetJobs, time_in_turn
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.job import KernelJob, SubnetJob, SubnetTiming
from ofa_tvm.tuner.trial import TrialResult


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

    def trial(self, request: BoardRequest, job: KernelJob) -> Record:
        """Build a kernel, time it on a board and, if it seems the fastest so far, check its output.

        "crashed" or "timed_out" where that happened to the kernel, and the board lives.
        """
        cache = ObjectCache(job.target.attributes)
        emitted = cache.kernel(job.kernel, job.schedule)
        inputs, program = random_inputs(job.kernel), KernelProgram(emitted, cache.features.cores)
        with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, keep):
            library = Path(name) / "kernel.so"
            program.build(code, inputs, job.target.toolchain.linker, library, standalone=False)
            answer = self._held.use(request, lambda board: _measure(board, library, program, inputs, job))
            if answer.get("is_checked"):
                keep()
        return answer

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
    seconds = board.tensor(np.zeros(timed.repeats))
    if error := int(module["time"](tensor, seconds, 1000 * timed.min_repeat_ms)):
        return _ended(error)
    result = TrialResult("ok", tuple(1e3 * float(value) for value in seconds.numpy()))
    if job.best_ms is not None and min(result.times_ms) >= job.best_ms:
        return result
    outputs = board.tensor(np.zeros(program.output_bytes, np.uint8))
    if error := int(module["run"](tensor, outputs)):
        return _ended(error)
    difference = relative_error(program.outputs(outputs.numpy().tobytes()), compute(job.kernel, inputs))
    return replace(result, is_checked=True) if difference < tolerance(job.kernel) else wrong_output(difference)


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
