"""TunedSpace: a space, the target that its kernels are tuned for, and the log that knows the winners."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.codegen import KernelStep, auto_types, codegen_of
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.tuner.log import TuningLog, opened_log
from ofa_tvm.tuner.urgency import kernel_frequencies

_AT = re.compile(r"(.+?)@([a-z]+(?::.*)?)")
"""A target with its device; what a path has after an @ is no device, as it has a slash or a dot."""


@dataclass(frozen=True)
class Target:
    """A device that networks are compiled for, and how it was named.

    Args:
        source: its name or file.
        spec: what it is.
        device: where it is measured, if that was named beside the target.
        logs: folder of tuning logs; None for the usual ones.
    """

    source: str
    spec: TargetSpec
    device: str | None = None
    logs: Path | None = None

    @classmethod
    def named(
        cls,
        source: str,
        threads: int | None = None,
        batch: int | None = None,
        device: str | None = None,
        dtype: DType | None = None,
        logs: Path | None = None,
    ) -> Target:
        """A target read by its name or file, see ``load_target``; ``NAME@DEVICE`` says where it is measured, too.

        Raises:
            UserError: it cannot be read, or two devices are named.
        """
        if beside := _AT.fullmatch(source):
            source, where = beside.groups()
            if device not in (None, where):
                raise UserError(f"--target {source}@{where} and --device {device} name two devices", "name one of them")
            device = where
        return cls(source, load_target(source, threads, batch, device, dtype), device, logs)

    @property
    def types(self) -> tuple[DType, ...]:
        """Number types of ``--dtype auto`` on it."""
        return auto_types(self.spec)

    def tuned(self, space: SearchSpace) -> TunedSpace:
        """A space with this target and its log."""
        return TunedSpace(space, self.spec, opened_log(self.spec, self.logs))


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
        return codegen_of(self.target).kernels(self.space, resolutions)

    @property
    def tuned_kernels(self) -> int:
        """How many of the space's kernels have a time in the log."""
        kernels = self.kernels()
        return sum(state.best_ms is not None for key, state in self.log.kernels.items() if key in kernels)

    def steps(self, network: NetworkSpec) -> list[KernelStep]:
        """The kernels that a network calls on the target, in order, with the layers that each computes."""
        return codegen_of(self.target).steps(network)

    def calls(self, network: NetworkSpec) -> list[KernelSpec]:
        """The kernels that a network calls on the target, in order."""
        return [kernel for _, kernel in self.steps(network)]

    def frequencies(self, resolutions: tuple[int, ...]) -> dict[str, float]:
        """How often a mean subnet of some resolutions calls each kernel, by key."""
        return kernel_frequencies(self.space, resolutions, kernels=self.kernels(resolutions), calls=self.calls)

    @property
    def own_classes(self) -> int | None:
        """The number of classes where it is not that of the space by that name."""
        if self.space.own:
            return self.space.classes
        return None if self.space.classes == get_space(self.space.name).classes else self.space.classes

    @property
    def model_folder(self) -> Path:
        """Where the latency model of this space and number of classes is kept."""
        classes = self.own_classes
        return self.log.folder / (self.space.name if classes is None else f"{self.space.name}-{classes}c")

    def schedules(self, config: SubnetConfig) -> str:
        """Identity of the schedules that a subnet is built with today."""
        return self.log.schedules_digest([kernel.key for kernel in self.calls(self.space.network(config))])
