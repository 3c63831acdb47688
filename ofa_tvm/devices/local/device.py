"""This machine's CPU or GPU, behind a worker process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Library, SerialDevice
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult

JOBS_MODULE = "ofa_tvm.devices.workers.subnet_jobs"
GPU_JOBS_MODULE = "ofa_tvm.devices.local.gpu_jobs"
NETWORK_TIMEOUT_S = 300
SETTLING = 9
"""Trials that say how fast a machine usually is."""


class LocalDevice(SerialDevice):
    """Runs trials and whole subnets on this machine; its worker warms up while the caller does other things.

    ``reference_ms`` is what a reference kernel usually takes: where it is set, one is timed beside every trial, and
    times are told at that speed.
    """

    def __init__(self, target: TargetSpec) -> None:
        self._target = target
        self.reference_ms: float | None = None
        environment = {"TVM_NUM_THREADS": str(target.threads), "OMP_NUM_THREADS": str(target.threads)}
        self._worker = Worker(GPU_JOBS_MODULE if target.is_gpu else JOBS_MODULE, environment)

    def start(self) -> None:
        """Wait until the worker is warm.

        Raises:
            DeviceUnreachable: it could not start.
        """
        self._worker.start()

    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Build, time and, if it beats ``best_ms``, check a candidate."""
        if self._target.is_gpu:
            return self._gpu_trial(spec, candidate)
        is_trace = "trace" in candidate.schedule
        beside = {} if is_trace else {"reference_ms": self.reference_ms}
        answer = self._worker.call(
            "trace_trial" if is_trace else "trial",
            self._target.tuning.timeout_s,
            kernel=asdict(spec),
            candidate=candidate.schedule,
            target=self._target.attributes,
            repeats=self._target.tuning.repeats,
            min_repeat_ms=self._target.tuning.min_repeat_ms,
            best_ms=best_ms,
            **beside,
        )
        return TrialResult.of_answer(answer)

    def _gpu_trial(self, spec: KernelSpec, candidate: Candidate) -> TrialResult:
        """On a GPU every output is checked, and times are told as they are."""
        answer = self._worker.call(
            "trial",
            self._target.tuning.timeout_s,
            kernel=asdict(spec),
            candidate=candidate.schedule,
            target=self._target.attributes,
            compiler=self._target.toolchain.linker,
            repeats=self._target.tuning.repeats,
            min_repeat_ms=self._target.tuning.min_repeat_ms,
        )
        return TrialResult.of_answer(answer)

    def tell_at_the_speed_of(self, tuning_log: TuningLog) -> None:
        """Tell times at the speed of a log, which is today's where the log has none yet; a GPU's are told as they are.

        Raises:
            DeviceUnreachable: the reference kernel does not run.
        """
        if self._target.is_gpu:
            return
        if tuning_log.reference_ms is None:
            tuning_log.settle_reference(self._time_reference())
        self.reference_ms = tuning_log.reference_ms

    def _time_reference(self) -> float:
        return median(self._time_reference_once() for _ in range(SETTLING))

    def _time_reference_once(self) -> float:
        result = self.trial(REFERENCE, Candidate(REFERENCE.key, "default", {}), 0.0)
        if result.best_ms is None:
            raise DeviceUnreachable(
                f"a reference kernel does not run: {result.error}", "run 'python -m ofa_tvm.doctor'"
            )
        return result.best_ms

    def networks(
        self, space: str, classes: int, subnets: Sequence[str], folder: Path, plan: WindowPlan
    ) -> list[dict[str, Any]]:
        """Compile subnets with the records in a log's folder and time them in turn; see ``workers.subnet_jobs``."""
        beside = {"dtype": self._target.dtype} if self._target.is_gpu else {}
        answer = self._worker.call(
            "networks",
            NETWORK_TIMEOUT_S * len(subnets),
            space=space,
            classes=classes,
            subnets=list(subnets),
            folder=str(folder),
            target=self._target.attributes,
            linker=self._target.toolchain.linker,
            batch=self._target.batch,
            plan=asdict(plan),
            **beside,
        )
        if answer["status"] == "ok":
            return list(answer["answers"])
        if len(subnets) == 1:
            return [answer]
        # One of them has failed, or taken the process down: the others shall not suffer.
        return [self.networks(space, classes, [subnet], folder, plan)[0] for subnet in subnets]

    def load(self, library: Path) -> Library:
        """A subnet's library, in this process."""
        if self._target.is_gpu:
            from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel

            return VirtualMachineModel(library, "cuda")
        from ofa_tvm.compiler.loaded_model import LoadedModel

        return LoadedModel(library)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
