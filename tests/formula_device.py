"""A device whose latencies follow a formula, and logs whose kernels were tuned on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult


def kernel_ms(kernel: KernelSpec) -> float:
    """What a kernel takes alone."""
    return 0.001 + kernel.flops / 1e8


class FormulaDevice:
    """Latency is the kernels' sum times a factor, and a constant; ``broken`` subnets fail."""

    def __init__(self, factor: float = 1.2, constant_ms: float = 0.01, broken: frozenset[str] = frozenset()) -> None:
        self.factor, self.constant_ms, self.broken = factor, constant_ms, broken
        self.measured: list[str] = []
        self.classes: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self) -> None:
        """It needs none."""

    def network(self, space: str, classes: int, subnet: str, folder: Path | None) -> dict[str, Any]:
        """Three times of a subnet, and of the reference subnet."""
        self.measured.append(subnet)
        self.classes.add(classes)
        if subnet in self.broken:
            return {"status": "crashed", "error": "killed by SIGSEGV"}
        network = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
        latency = self.factor * sum(kernel_ms(step.kernel) for step in fused_steps(network)) + self.constant_ms
        return {
            "status": "ok",
            "times_ms": [latency, latency * 1.01, latency * 0.99],
            "reference_ms": [1.0, 1.01, 0.99],
        }


def tuned_log(folder: Path, space: SearchSpace, target: str = "x86") -> TuningLog:
    """A log of all kernels of a space."""
    log = TuningLog(load_target(target), folder)
    log.folder.mkdir(parents=True)
    for key, kernel in fused_kernels(space).items():
        result = TrialResult("ok", (kernel_ms(kernel),), is_checked=True)
        log.commit(key, [(Candidate(key, "default", {}), result)])
    return log
