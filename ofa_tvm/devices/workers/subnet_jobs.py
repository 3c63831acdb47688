"""All jobs of the local device's worker process.

A subnet is timed in windows some seconds apart, in turn with others, each time loaded anew: where the system puts a
library's memory changes its speed. Beside it runs a reference subnet of its space, whose kernels do not depend on
tuning, so that times of another hour can be compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import RunnableModel, load_anew
from ofa_tvm.devices.workers.kernel_jobs import KernelJobs
from ofa_tvm.devices.workers.trace_jobs import trace_trial
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.timing.busy_cores import busy_cores
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.tuner.job import SubnetJob, SubnetTiming, SubnetTimings
from ofa_tvm.tuner.log import winners

REFERENCE_SHARE = 0.5
"""Length of a reference subnet's window over its subnet's."""


class AssembledSubnet:
    """An assembled subnet with random weights, and an input for it."""

    def __init__(self, network: NetworkSpec, winners: Winners, target: TargetSpec) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.library = Path(self._folder.name) / "subnet.so"
        cache = ObjectCache(target.attributes)
        linker = target.toolchain.linker
        weights = untrained_weights(network, target.dtype)
        assemble(network, weights, winners, cache, self.library, target.batch, linker)
        shape = (target.batch, network.resolution, network.resolution, network.in_channels)
        self.images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def time_in_turn(
    subnets: Sequence[AssembledSubnet],
    reference: AssembledSubnet,
    load: Callable[[Path], RunnableModel],
    plan: WindowPlan,
) -> list[SubnetTiming]:
    """Time subnets in turn, and the reference subnet beside each window; "wrong_output" when one is not finite."""

    def window(subnet: AssembledSubnet) -> tuple[bool, list[float], float]:
        model = load(subnet.library)
        is_finite = bool(np.isfinite(model(subnet.images)).all())
        figures = model.window(subnet.images, plan.window_ms)
        reference_figures = load(reference.library).window(reference.images, REFERENCE_SHARE * plan.window_ms)
        return is_finite, figures, reference_figures[0]

    with busy_cores(plan.busy_cores):
        return [_timing(windows) for windows in in_turn([partial(window, subnet) for subnet in subnets], plan)]


def _timing(windows: Sequence[tuple[bool, list[float], float]]) -> SubnetTiming:
    if not all(is_finite for is_finite, _, _ in windows):
        return SubnetTiming("wrong_output", error="the output is not finite")
    return SubnetTiming(
        status="ok",
        times_ms=tuple(figures[0] for _, figures, _ in windows),
        reference_ms=tuple(reference_ms for _, _, reference_ms in windows),
        figures=tuple(tuple(figures) for _, figures, _ in windows),
    )


class SubnetJobs:
    """Subnets built and timed, and what a job keeps for the next: the log's winners, and reference subnets."""

    def __init__(self) -> None:
        self._read_winners = lru_cache(maxsize=1)(lambda folder, modified_ns: winners(folder))
        self._references: dict[str, AssembledSubnet] = {}

    def assembled(self, job: SubnetJob) -> list[AssembledSubnet]:
        """A job's subnets."""
        tuned = self._winners(job.subnets.folder)
        return [AssembledSubnet(network, tuned, job.target) for network in job.subnets.networks]

    def _winners(self, folder: Path | None) -> Winners:
        path = None if folder is None else folder / "kernels.jsonl"
        return {} if path is None or not path.exists() else self._read_winners(folder, path.stat().st_mtime_ns)

    def reference(self, job: SubnetJob) -> AssembledSubnet:
        """The reference subnet of a job's space."""
        key = f"{job.subnets.space} {job.target.model_dump_json()}"
        if key not in self._references:
            (network,) = job.subnets.reference.networks
            self._references[key] = AssembledSubnet(network, {}, job.target)
        return self._references[key]

    def time_subnets(self, job: SubnetJob) -> SubnetTimings:
        """Assemble subnets, and time them in turn; see ``time_in_turn``."""
        return SubnetTimings(tuple(time_in_turn(self.assembled(job), self.reference(job), load_anew, job.plan)))


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    return {"trial": KernelJobs().trial, "trace_trial": trace_trial, "time_subnets": SubnetJobs().time_subnets}
