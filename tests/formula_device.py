"""A device whose latencies follow a formula, and logs whose kernels were tuned on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.support.dtype import DType
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult


def kernel_ms(kernel: KernelSpec) -> float:
    """What a kernel takes alone."""
    return 0.001 + kernel.flops / 1e8


def window_figures(ms: float, calibration_ms: float = 0.05, calls: int = 100, left_out: int = 0) -> list[float]:
    """Figures of a window, as a library gives them."""
    percentiles = [ms, 1.1 * ms, 1.3 * ms]
    return [*percentiles, *percentiles, calls, left_out, 1.0, calibration_ms]


class FormulaDevice(Device):
    """Latency is the kernels' sum times a factor, and a constant; ``broken`` subnets fail."""

    def __init__(self, factor: float = 1.2, constant_ms: float = 0.01, broken: frozenset[str] = frozenset()) -> None:
        self.factor, self.constant_ms, self.broken = factor, constant_ms, broken
        self.calibration_ms = 0.05
        self.measured: list[str] = []
        self.classes: set[int] = set()

    def start(self) -> None:
        """It needs none."""

    def close(self) -> None:
        """Nothing is to be ended."""

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """It has no kernels of its own."""
        raise NotImplementedError

    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """Answers for subnets one by one."""
        return [self.time_subnet(subnets.space, subnets.classes, key) for key in subnets.keys]

    def time_subnet(self, space: str, classes: int, subnet: str) -> SubnetTiming:
        """Three windows of a subnet, and of the reference subnet."""
        self.measured.append(subnet)
        self.classes.add(classes)
        if subnet in self.broken:
            return SubnetTiming("crashed", error="killed by SIGSEGV")
        network = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
        alone_ms = self.factor * sum(kernel_ms(step.kernel) for step in fused_steps(network)) + self.constant_ms
        slowness = self.slowness()
        windows = [slowness * share for share in (1, 1.01, 0.99)]
        times_ms = [share * self.own_slowness(subnet) * alone_ms for share in windows]
        figures = tuple(tuple(window_figures(time_ms, self.calibration_ms)) for time_ms in times_ms)
        return SubnetTiming("ok", tuple(times_ms), tuple(windows), figures)

    def slowness(self) -> float:
        """How many times slower than usual the machine is now."""
        return 1.0

    def own_slowness(self, subnet: str) -> float:
        """How many times slower than by the formula a subnet is."""
        return 1.0


def tuned_log(folder: Path, space: SearchSpace, target: str = "x86", dtype: DType = "float32") -> TuningLog:
    """A log of all kernels of a space."""
    log = TuningLog(load_target(target, dtype=dtype), folder)
    log.folder.mkdir(parents=True)
    for key, kernel in fused_kernels(space, dtype=dtype).items():
        result = TrialResult("ok", (kernel_ms(kernel),), is_checked=True)
        log.commit(key, [(Candidate(key, "default", {}), result)])
    return log
