"""No device at all: times estimated from instruction counts under qemu and LLVM's model of the CPU.

Estimates rank; they are no measurements. On x86, where both can be had, ``benchmarks/estimates.py`` compares them. A
kernel's time is its cycles at the assumed clock, and its weights at the assumed rate, since they are not in the caches.
A network's time is the sum of its kernels'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from ofa_tvm.devices.emulation.instruction_counts import emulator
from ofa_tvm.devices.emulation.model import EmulatedModel
from ofa_tvm.devices.estimate.cycle_model import llvm_tool
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.devices.workers.worker_pool import WorkerPool
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.log import best_times
from ofa_tvm.tuner.trial import TrialResult

JOBS_MODULE = "ofa_tvm.devices.estimate.jobs"


class EstimateDevice(Device):
    """Estimates trials on all cores of this machine.

    Args:
        target: a target with a section ``[estimate]``.

    Raises:
        UserError: the target has none, or a tool is not installed.
    """

    def __init__(self, target: TargetSpec) -> None:
        if target.estimate is None:
            raise UserError(f"target {target.name} does not say how to estimate", "its file needs a section [estimate]")
        emulator(target.target.mtriple)
        llvm_tool("llvm-mca", target.estimate.llvm)
        self._target = target
        self._defaults: dict[str, float | None] = {}

    @cached_property
    def _pool(self) -> WorkerPool:
        return WorkerPool([Worker(JOBS_MODULE) for _ in range(process_cores())])

    def start(self) -> None:
        """Wait until the workers are warm.

        Raises:
            DeviceUnreachable: one could not start.
        """
        self._pool.start()

    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Estimate a candidate and, if it beats ``best_ms``, check its output."""
        return next(self.trials(spec, [candidate], best_ms))

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Results of candidates in their order, as they come."""
        assert self._target.estimate is not None
        timeout_s = self._target.tuning.timeout_s
        same = {
            "kernel": asdict(spec),
            "target": self._target.target.model_dump(mode="json"),
            "tasks": self._target.threads,
            "compiler": self._target.toolchain.linker,
            "estimate": self._target.estimate.model_dump(mode="json"),
            "best_ms": best_ms,
            "most_s": timeout_s,
        }
        jobs = [{**same, "candidate": candidate.schedule} for candidate in candidates]
        return map(TrialResult.of_answer, self._pool.map("trial", timeout_s, jobs))

    def networks(
        self, space: str, classes: int, subnets: Sequence[str], folder: Path, plan: WindowPlan
    ) -> list[dict[str, Any]]:
        """An estimate of each subnet; see ``network``."""
        return [self.network(space, classes, subnet, folder) for subnet in subnets]

    def network(self, space: str, classes: int, subnet: str, folder: Path) -> dict[str, Any]:
        """The sum of a subnet's kernel times in a log's folder; a kernel without a record is estimated now.

        Estimates do not drift, so the reference subnet's time counts as 1 ms.
        """
        known = best_times(folder)
        total_ms = 0.0
        for step in fused_steps(get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))):
            kernel_ms = known.get(step.kernel.key)
            kernel_ms = self._default_ms(step.kernel) if kernel_ms is None else kernel_ms
            if kernel_ms is None:
                return {"status": "failed", "error": f"kernel {step.kernel.key} cannot be estimated"}
            total_ms += kernel_ms
        return {"status": "ok", "times_ms": [self._target.batch * total_ms], "reference_ms": [1.0]}

    def _default_ms(self, spec: KernelSpec) -> float | None:
        if spec.key not in self._defaults:
            self._defaults[spec.key] = self.trial(spec, Candidate(spec.key, "default", {}), 0.0).best_ms
        return self._defaults[spec.key]

    def load(self, library: Path) -> EmulatedModel:
        """A library of the target, ready to run under emulation."""
        return EmulatedModel(library, self._target.target.mtriple, self._target.toolchain.linker)

    def close(self) -> None:
        """End the workers."""
        if "_pool" in vars(self):
            self._pool.close()
