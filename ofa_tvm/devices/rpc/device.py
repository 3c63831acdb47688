"""Boards behind TVM's RPC tracker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.devices.rpc.board_health import Limits
from ofa_tvm.devices.rpc.board_pool import Ask, BoardPool, Checks
from ofa_tvm.devices.rpc.board_slots import Message
from ofa_tvm.devices.rpc.tracker import WAIT_S, Tracker, how_to_attach, is_loopback
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import DeviceUnreachable, OfaTvmError, UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob, SubnetJob, SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult

JOBS_MODULE = "ofa_tvm.devices.rpc.jobs"
TINY_KERNEL = KernelSpec("conv", 8, 16, 4, bias=True)
REFERENCE_REPEATS = 20
USUAL = Limits()
CLASSIFY_S = 600.0
WARNING = (
    "TVM's RPC asks nobody who they are: whoever reaches a tracker or a board's server can run any program there. "
    "Keep both on loopback and join them by SSH (README, 'Boards'), or use a network that only you reach"
)


class RpcDevice(Device):
    """Runs trials and whole subnets on all boards that a tracker lists.

    Args:
        target: a target with a section ``[rpc]`` and a tracker.
        limits: what a board may do before it gets no more jobs; None: its times mean nothing. The target's
            ``tuning.max_noise`` stands instead of both limits.

    Raises:
        UserError: the target names no tracker.
        DeviceUnreachable: no tracker answers, or no board is registered.
    """

    def __init__(self, target: TargetSpec, limits: Limits | None = USUAL) -> None:
        if target.rpc is None or target.tracker is None:
            raise UserError(f"target {target.name} names no tracker", "use --device rpc:HOST:PORT")
        if not is_loopback(target.tracker):
            warn(f"warning: the tracker {target.tracker} is reached over a network. {WARNING}")
        if limits is not None and target.tuning.max_noise is not None:
            limits = Limits(target.tuning.max_noise, target.tuning.max_noise)
        self._target, self._limits = target, limits
        advice = how_to_attach(target.tracker, target.rpc.key)
        count = len(Tracker(target.tracker, target.rpc.key).boards())
        if not count:
            raise DeviceUnreachable(f"the tracker {target.tracker} has no board '{target.rpc.key}'", advice)
        access = {
            "tracker": target.tracker,
            "key": target.rpc.key,
            "session_timeout_s": target.rpc.session_timeout_s,
            "cores": target.rpc.cores,
            "compiler": target.toolchain.linker,
        }
        checks = Checks(self._connect, self._reference_ms, limits)
        self._pool = BoardPool([Worker(JOBS_MODULE) for _ in range(count)], access, checks, advice)
        self._is_started = False

    def start(self) -> None:
        """Connect to the boards and check them; done once, at the latest by the first job.

        Raises:
            DeviceUnreachable: none can be used.
        """
        if not self._is_started:
            self._pool.start()
            self._is_started = True

    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Build, time and, if it beats ``best_ms``, check a candidate."""
        return next(self.trials(spec, [candidate], best_ms))

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Results of candidates in their order, as they come."""
        self.start()
        with_reference = self._limits is not None
        jobs = [
            {"job": KernelJob(spec, candidate.schedule, self._target, best_ms), "with_reference": with_reference}
            for candidate in candidates
        ]
        return map(TrialResult.of_answer, self._pool.map("trial", self._timeout_s, jobs))

    def calibrate_to(self, tuning_log: TuningLog) -> None:
        """Set boards aside while they are slower than those with which a log began."""
        if self._limits is None:
            return
        if tuning_log.reference_ms is None:
            latest_ms = [state.latest_ms for state in self._pool.states.values() if not state.quarantine]
            tuning_log.settle_reference(median(one for one in latest_ms if one is not None))
        if tuning_log.reference_ms is not None:
            self._pool.expect(tuning_log.reference_ms)

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """Compile subnets and time each on a board; see ``workers.subnet_jobs``."""
        self.start()
        job = SubnetJob(subnets, self._target, plan)
        jobs = [{"job": job.alone(key)} for key in subnets.keys]
        return list(map(SubnetTiming.of_answer, self._pool.map("time_subnet", self._timeout_s + self._session_s, jobs)))

    def load(self, library: Path) -> BoardModel:
        """A subnet's library, to be run on a board."""
        return BoardModel(library, lambda job, arguments: self.call(job, CLASSIFY_S, arguments))

    def call(self, job: str, timeout_s: float, arguments: Mapping[str, object]) -> Message:
        """Run a job on any board; see ``BoardPool.call``."""
        self.start()
        return self._pool.call(job, timeout_s, arguments)

    def boards(self) -> list[Message]:
        """What is known of each board now, and the conditions."""
        assert self._target.rpc is not None
        conditions = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "key": self._target.rpc.key,
            "threads": self._target.threads,
            "cores": list(self._target.rpc.cores),
        }
        return [{**conditions, **state.record()} for state in list(self._pool.states.values())]

    @property
    def _session_s(self) -> float:
        assert self._target.rpc is not None
        return float(self._target.rpc.session_timeout_s)

    @property
    def _timeout_s(self) -> float:
        return self._target.tuning.timeout_s + 2 * WAIT_S

    def _connect(self, ask: Ask) -> Message:
        facts: Message = _good(ask("connect", self._timeout_s), "cannot be used")["facts"]
        kernel = replace(TINY_KERNEL, dtype=self._target.dtype)
        tiny = ask("trial", self._timeout_s, job=KernelJob(kernel, {}, self._target.with_repeats(1)))
        _good(tiny, "does not compute what it should")
        return facts

    def _reference_ms(self, ask: Ask) -> list[float]:
        job = KernelJob(REFERENCE, {}, self._target.with_repeats(REFERENCE_REPEATS), best_ms=0.0)
        answer = ask("trial", self._timeout_s, job=job)
        return list(_good(answer, "cannot time the reference kernel")["times_ms"])

    def close(self) -> None:
        """End the sessions and workers."""
        self._pool.close()


class BoardModel:
    """A subnet's library on a board.

    Args:
        library: the library, here.
        call: runs a job (name, arguments) on a board.
    """

    where: ClassVar = "on a board"

    def __init__(self, library: Path, call: Callable[[str, Mapping[str, object]], Message]) -> None:
        self._library, self._call = library, call

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, classes) of any number of normalised images (n, resolution, resolution, channels).

        Raises:
            OfaTvmError: the board could not run it.
        """
        with tempfile.TemporaryDirectory() as folder:
            logits = Path(folder) / "logits.npy"
            self._run("classify", Path(folder), images, logits=logits)
            answer: NDArray[np.float32] = np.load(logits)
            return answer

    def window(self, images: NDArray[np.float32], window_ms: float) -> list[float]:
        """Figures of single calls on a board, of the library loaded anew; see ``timing.window.Window``.

        Raises:
            OfaTvmError: the board could not run it.
        """
        with tempfile.TemporaryDirectory() as folder:
            return list(self._run("time_model", Path(folder), images, window_ms=window_ms)["figures"])

    def _run(self, job: str, folder: Path, images: NDArray[np.float32], **arguments: object) -> Message:
        np.save(folder / "images.npy", images)
        answer = self._call(job, {"library": self._library, "images": folder / "images.npy", **arguments})
        if answer["status"] != "ok":
            raise OfaTvmError(f"{self._library} does not run on the board: {answer['status']}: {answer['error']}")
        return answer


def _good(answer: Message, problem: str) -> Message:
    if answer["status"] != "ok":
        raise DeviceUnreachable(f"{problem}: {answer['status']}: {answer['error']}")
    return answer
