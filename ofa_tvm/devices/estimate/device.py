"""No device at all: times estimated from instruction counts under qemu and LLVM's model of the CPU.

Estimates rank; they are no measurements. On x86, where both are possible, ``benchmarks/estimates.py`` compares them. A
kernel's time is its cycles at the assumed clock, and its weights at the assumed rate, since they are not in the caches.
A network's time is the sum of its kernels'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ofa_tvm.devices.emulation.instruction_counts import emulator
from ofa_tvm.devices.emulation.model import EmulatedModel
from ofa_tvm.devices.estimate.cycle_model import llvm_tool
from ofa_tvm.devices.workers.worker import Worker
from ofa_tvm.devices.workers.worker_pool import WorkerPool
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import KernelJob, SubnetTiming, TunedSubnets
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
        jobs = [{"job": KernelJob(spec, candidate.schedule, self._target, best_ms)} for candidate in candidates]
        return map(TrialResult.of_answer, self._pool.map("trial", self._target.tuning.timeout_s, jobs))

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """An estimate of each subnet: the sum of its kernels' times.

        A kernel without a record is estimated now. Estimates do not drift, so the reference subnet counts as 1 ms.
        """
        best_ms = {} if subnets.folder is None else best_times(subnets.folder)
        return [self._sum(network, best_ms) for network in subnets.networks]

    def _sum(self, network: NetworkSpec, best_ms: Mapping[str, float]) -> SubnetTiming:
        total_ms = 0.0
        for step in fused_steps(network, self._target.dtype):
            kernel_ms = best_ms.get(step.kernel.key) or self._default_ms(step.kernel)
            if kernel_ms is None:
                return SubnetTiming("failed", error=f"kernel {step.kernel.key} cannot be estimated")
            total_ms += kernel_ms
        return SubnetTiming("ok", (self._target.batch * total_ms,), (1.0,))

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
