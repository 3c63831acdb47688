"""Jobs of the worker process for this machine's GPU: what a pack does on a remote device, done here in one go."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from ofa_tvm.devices.pack import jobs as pack_jobs
from ofa_tvm.devices.pack.forms import measure
from ofa_tvm.devices.pack.tvm_runtime import Runtime
from ofa_tvm.devices.pack.writer import KERNEL_TOLERANCE, SUBNET_TOLERANCE
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.job import KernelJob, SubnetJob, SubnetTiming, SubnetTimings
from ofa_tvm.tuner.trial import TrialResult


class GpuJobs:
    """Trials and subnets on a GPU, and what one job keeps for the next: TVM's runtime, and reference subnets."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._references: dict[str, tuple[Record, bytes]] = {}

    def runtime(self) -> Runtime:
        """TVM's runtime with this machine's GPU, opened in the process that uses it: CUDA does not survive a fork."""
        if self._runtime is None:
            self._runtime = Runtime((), "cuda")
        return self._runtime

    def runtime_of(self, target: TargetSpec) -> Runtime:
        """TVM's runtime with the memory that a target's libraries take tensors from."""
        return Runtime((), "cpu") if target.has_templates else self.runtime()

    def trial(self, job: KernelJob) -> TrialResult:
        """Build, time and check a kernel; every output is checked, and times are not normalised."""
        timed = job.target.tuning
        tolerance = KERNEL_TOLERANCE[job.kernel.dtype]
        settings = {"repeats": timed.repeats, "min_repeat_ms": timed.min_repeat_ms, "tolerance": tolerance}
        with tempfile.TemporaryDirectory() as name:
            build = pack_jobs.program if job.target.has_templates else pack_jobs.function
            entry = build(job, "kernel", Path(name)).entry
            return TrialResult.of_answer(measure(self.runtime_of(job.target), Path(name), entry, settings))

    def time_subnets(self, job: SubnetJob) -> SubnetTimings:
        """Build subnets, check each, and time it in turn with the reference subnet."""
        return SubnetTimings(tuple(self.time_subnet(job.alone(key)) for key in job.subnets.keys))

    def time_subnet(self, job: SubnetJob) -> SubnetTiming:
        """The one subnet of a job."""
        settings = {**asdict(job.plan), "subnet_tolerance": SUBNET_TOLERANCE[job.target.dtype], "is_gpu": True}
        with tempfile.TemporaryDirectory() as name:
            reference = self._reference(job, Path(name))
            entry = {**pack_jobs.subnet(job, "subnet", Path(name)).entry, "reference": reference}
            return SubnetTiming.of_answer(measure(self.runtime_of(job.target), Path(name), entry, settings))

    def _reference(self, job: SubnetJob, folder: Path) -> Record:
        """The entry of the space's reference subnet, which is built once and written into a folder."""
        key = f"{job.subnets.space} {job.target.model_dump_json()}"
        if key not in self._references:
            middle = job.subnets.reference
            identity = f"reference-{middle.space}-{job.target.dtype}"
            entry = pack_jobs.subnet(replace(job, subnets=middle), identity, folder).entry
            self._references[key] = (entry, (folder / entry["library"]).read_bytes())
        entry, content = self._references[key]
        (folder / entry["library"]).write_bytes(content)
        return entry


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    gpu_jobs = GpuJobs()
    return {"trial": gpu_jobs.trial, "time_subnets": gpu_jobs.time_subnets}
