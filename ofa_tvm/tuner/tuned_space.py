"""TunedSpace: a space, the target that its kernels are tuned for, and the log that knows the winners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.lowering import kernel_calls, kernel_set
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.urgency import kernel_frequencies


@dataclass(frozen=True, eq=False)
class TunedSpace:
    """A space on a target.

    Args:
        space: the space, with its number of classes.
        target: what it is tuned for.
        log: the target's.
    """

    space: SearchSpace
    target: TargetSpec
    log: TuningLog

    def kernels(self, resolutions: tuple[int, ...] | None = None) -> dict[str, KernelSpec]:
        """All kernels of the space, or of some of its resolutions, by key."""
        return kernel_set(self.space, resolutions, self.target)

    def calls(self, network: NetworkSpec) -> list[KernelSpec]:
        """The kernels that a network calls on the target, in order."""
        return kernel_calls(network, self.target)

    def frequencies(self, resolutions: tuple[int, ...]) -> dict[str, float]:
        """How often a mean subnet of some resolutions calls each kernel, by key."""
        return kernel_frequencies(self.space, resolutions, kernels=self.kernels(resolutions), calls=self.calls)

    @property
    def own_classes(self) -> int | None:
        """The number of classes where it is not that of the space by that name."""
        return None if self.space.classes == get_space(self.space.name).classes else self.space.classes

    @property
    def model_folder(self) -> Path:
        """Where the latency model of this space and number of classes is kept."""
        classes = self.own_classes
        return self.log.folder / (self.space.name if classes is None else f"{self.space.name}-{classes}c")

    def schedules(self, config: SubnetConfig) -> str:
        """Identity of the schedules that a subnet is built with today."""
        return self.log.schedules_digest([kernel.key for kernel in self.calls(self.space.network(config))])
