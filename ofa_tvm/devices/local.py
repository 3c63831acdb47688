"""This machine's CPU or GPU, behind a worker process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ofa_tvm.devices.one_by_one import OneByOne
from ofa_tvm.devices.worker import Worker
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.targets import TargetSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TrialResult

JOBS_MODULE = "ofa_tvm.devices.jobs"
GPU_JOBS_MODULE = "ofa_tvm.devices.gpu_jobs"
NETWORK_TIMEOUT_S = 300


class LocalDevice(OneByOne):
    """Runs trials and whole subnets on this machine; its worker warms up while the caller does other things."""

    def __init__(self, target: TargetSpec) -> None:
        self._target = target
        environment = {"TVM_NUM_THREADS": str(target.threads), "OMP_NUM_THREADS": str(target.threads)}
        self._worker = Worker(JOBS_MODULE if target.target.gpu is None else GPU_JOBS_MODULE, environment)

    def start(self) -> None:
        """Wait until the worker is warm.

        Raises:
            DeviceUnreachable: it could not start.
        """
        self._worker.start()

    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Build, time and, if it beats ``best_ms``, check a candidate."""
        job = "trace_trial" if "trace" in candidate.schedule else "trial"
        more: dict[str, Any] = {"best_ms": best_ms}
        if self._target.target.gpu is not None:  # every output is checked there
            job, more = "trial", {"compiler": self._target.toolchain.linker}
        answer = self._worker.call(
            job,
            self._target.tuning.timeout_s,
            kernel=asdict(spec),
            candidate=candidate.schedule,
            target=self._target.attributes,
            repeats=self._target.tuning.repeats,
            min_repeat_ms=self._target.tuning.min_repeat_ms,
            **more,
        )
        return TrialResult.of_answer(answer)

    def network(self, space: str, classes: int, subnet: str, folder: Path) -> dict[str, Any]:
        """Compile a subnet with the records in a log's folder and time it; see ``devices.jobs.network``."""
        measure = self._target.measure
        return self._worker.call(
            "network",
            NETWORK_TIMEOUT_S,
            space=space,
            classes=classes,
            subnet=subnet,
            folder=str(folder),
            target=self._target.attributes,
            linker=self._target.toolchain.linker,
            batch=self._target.batch,
            warmup=measure.warmup,
            repeats=measure.repeats,
            min_repeat_ms=measure.min_repeat_ms,
        )

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
