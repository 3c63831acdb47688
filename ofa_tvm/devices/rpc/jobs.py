"""Jobs of a board's worker process: build here, run there."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.rpc.session import NEEDED, Access, Answer, Board, HeldBoard
from ofa_tvm.devices.workers.kernel_jobs import TOLERANCE, relative_error, stored_object
from ofa_tvm.devices.workers.subnet_jobs import SubnetJobs, time_in_turn
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import Array, compute, random_inputs
from ofa_tvm.timing.turns import WindowPlan


class BoardJobs:
    """What is done on a board: built here, run there. The board is held from one job to the next."""

    def __init__(self) -> None:
        self._held = HeldBoard()
        self._subnets = SubnetJobs()

    def ping(self, access: dict[str, Any], avoid: Sequence[str], others: int) -> Answer:
        """Whether there is a board."""

        def use(board: Board) -> Answer:
            board.require(NEEDED[0])
            return {"status": "ok"}

        return self._held.use(Access(**access), avoid, others, use)

    def connect(self, access: dict[str, Any], avoid: Sequence[str], others: int) -> Answer:
        """Check that a board's server has what is needed.

        Returns:
            ``status`` "ok" and ``facts``.
        """

        def use(board: Board) -> Answer:
            for name in NEEDED:
                board.require(name)
            return {"status": "ok", "facts": board.facts(Access(**access))}

        return self._held.use(Access(**access), avoid, others, use)

    def trial(
        self,
        access: dict[str, Any],
        avoid: Sequence[str],
        others: int,
        kernel: dict[str, Any],
        candidate: dict[str, Any],
        target: dict[str, Any],
        repeats: int,
        min_repeat_ms: int,
        best_ms: float | None,
    ) -> Answer:
        """Build a candidate, time it on a board and, if it beats ``best_ms``, check its output.

        Returns:
            As ``tuner.jobs.trial``; "crashed" or "timed_out" where that happened to the kernel, and the board lives.
        """
        spec, cache, settings = KernelSpec(**kernel), ObjectCache(target), Access(**access)
        emitted = cache.kernel(spec, candidate)
        inputs, program = random_inputs(spec), KernelProgram(emitted, cache.features.cores)
        with tempfile.TemporaryDirectory() as name, stored_object(cache, emitted) as (code, keep):
            library = Path(name) / "kernel.so"
            program.build(code, inputs, settings.compiler, library, standalone=False)

            def use(board: Board) -> Answer:
                return _measure(board, library, program, inputs, repeats, min_repeat_ms, best_ms)

            answer = self._held.use(settings, avoid, others, use)
            if answer.get("is_checked"):
                keep()
        return answer

    def network(
        self,
        access: dict[str, Any],
        avoid: Sequence[str],
        others: int,
        space: str,
        classes: int,
        subnet: str,
        folder: str,
        target: dict[str, Any],
        batch: int,
        plan: dict[str, Any],
    ) -> Answer:
        """Assemble a subnet with a log's winners, and time it on a board; see ``workers.subnet_jobs``."""
        settings = Access(**access)
        own, reference = self._subnets.assembled(space, classes, subnet, folder, target, settings.compiler, batch)

        def use(board: Board) -> Answer:
            return time_in_turn([own], reference, board.model, WindowPlan(**plan))[0]

        return self._held.use(settings, avoid, others, use)

    def classify(
        self, access: dict[str, Any], avoid: Sequence[str], others: int, library: str, images: str, logits: str
    ) -> Answer:
        """Run a subnet's library on any number of images (a .npy file) and write the logits (another)."""

        def use(board: Board) -> Answer:
            model, images_read = board.kept_model(Path(library)), np.load(images)
            padded = np.concatenate(
                [images_read, np.zeros((-len(images_read) % model.batch, *images_read.shape[1:]), np.float32)]
            )
            batches = np.split(padded, len(padded) // model.batch)
            np.save(logits, np.concatenate([model(batch) for batch in batches])[: len(images_read)])
            return {"status": "ok"}

        return self._held.use(Access(**access), avoid, others, use)

    def time_model(
        self, access: dict[str, Any], avoid: Sequence[str], others: int, library: str, images: str, window_ms: float
    ) -> Answer:
        """Time a window of a subnet's library, loaded anew, on images of one call (a .npy file)."""

        def use(board: Board) -> Answer:
            return {"status": "ok", "figures": board.model(Path(library)).window(np.load(images), window_ms)}

        return self._held.use(Access(**access), avoid, others, use)


def _measure(
    board: Board,
    library: Path,
    program: KernelProgram,
    inputs: list[Array],
    repeats: int,
    min_repeat_ms: int,
    best_ms: float | None,
) -> Answer:
    module = board.load(library)
    tensor = board.tensor(np.frombuffer(program.inputs(inputs), np.uint8))
    seconds = board.tensor(np.zeros(repeats))
    if error := int(module["time"](tensor, seconds, 1000 * min_repeat_ms)):
        return _ended(error)
    times_ms = [1e3 * float(value) for value in seconds.numpy()]
    answer: Answer = {"status": "ok", "times_ms": times_ms}
    if best_ms is not None and min(times_ms) >= best_ms:
        return answer
    outputs = board.tensor(np.zeros(program.output_bytes, np.uint8))
    if error := int(module["run"](tensor, outputs)):
        return _ended(error)
    difference = relative_error(program.outputs(outputs.numpy().tobytes()), compute(program.kernel.spec, inputs))
    if not difference < TOLERANCE:
        return {"status": "wrong_output", "error": f"differs from the reference by {difference:.2g}"}
    return {**answer, "is_checked": True}


def _ended(error: int) -> Answer:
    """What the kernel's process on the board ended with; see ``kernel_program.c``."""
    if error > 0:
        return {"status": "failed", "error": f"the board says: {os.strerror(error)}"}
    if -error == signal.SIGALRM:
        return {"status": "timed_out", "error": "the board ended it: it took too long"}
    name = signal.Signals(-error).name
    hint = ": the board's CPU lacks an instruction that the target's mcpu has" if -error == signal.SIGILL else ""
    return {"status": "crashed", "error": f"killed by {name} on the board{hint}"}


def jobs() -> dict[str, Callable[..., Answer]]:
    """The jobs of one process."""
    own = BoardJobs()
    return {
        "ping": own.ping,
        "connect": own.connect,
        "trial": own.trial,
        "network": own.network,
        "classify": own.classify,
        "time_model": own.time_model,
    }
