"""This machine's CPU or GPU, behind a worker process."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from ofa_tvm.compiler.codegen import Library, codegen_of
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import SerialDevice
from ofa_tvm.tuner.drift import REFERENCE
from ofa_tvm.tuner.job import KernelJob, SubnetJob, SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult

JOBS_MODULE = "ofa_tvm.devices.workers.subnet_jobs"
GPU_JOBS_MODULE = "ofa_tvm.devices.local.gpu_jobs"
SUBNET_TIMEOUT_S = 300
SETTLING = 9
"""Trials that show how fast a machine usually is."""


class LocalDevice(SerialDevice):
    """Runs trials and whole subnets on this machine; its worker warms up while the caller does other things.

    ``reference_ms`` is what a reference kernel took when the log began: where it is set, one is timed beside every
    trial, and times are normalised to that speed.
    """

    def __init__(self, target: TargetSpec) -> None:
        self._target, self.max_noise = target, target.tuning.max_noise
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
        is_trace = "trace" in candidate.schedule and not self._target.is_gpu
        job = KernelJob(spec, candidate.schedule, self._target, best_ms, self.reference_ms)
        answer = self._worker.call("trace_trial" if is_trace else "trial", self._target.tuning.timeout_s, job=job)
        return TrialResult.of_answer(answer)

    def calibrate_to(self, tuning_log: TuningLog) -> None:
        """Normalise times to a log's speed, which is today's where the log has none yet; a GPU's stay as they are.

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

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """Compile subnets and time them in turn; see ``workers.subnet_jobs``."""
        job = SubnetJob(subnets, self._target, plan)
        answer = self._worker.call("time_subnets", SUBNET_TIMEOUT_S * len(subnets.keys), job=job)
        if answer["status"] == "ok":
            return [SubnetTiming.of_answer(timing) for timing in answer["timings"]]
        if len(subnets.keys) == 1:
            return [SubnetTiming.of_answer(answer)]
        # One of them failed or crashed the process: time each alone, so that the others are not lost.
        return [self.time_subnets(subnets.alone(key), plan)[0] for key in subnets.keys]

    def load(self, library: Path) -> Library:
        """A subnet's library, in this process."""
        return codegen_of(self._target).load(library)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
