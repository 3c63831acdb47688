"""What a device's processes are asked to do, and what they answer. Both travel as JSON between processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig, described_space, get_space, own_model
from ofa_tvm.support.files import Record
from ofa_tvm.support.typed import Millijoules
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.timing.window import Window
from ofa_tvm.tuner.trial import TrialStatus, impossible, require_times


@dataclass(frozen=True)
class KernelJob:
    """Build a kernel, time it, and check its output if it seems the fastest so far.

    Args:
        kernel: the kernel.
        schedule: how it is computed.
        target: what it is compiled for, and how it is timed.
        best_ms: the fastest so far; None: its output is always checked.
        reference_ms: what a reference kernel took when the log began; it is timed in turn with this one, whose times
            are normalised to that speed. None: times stay as they are.
    """

    kernel: KernelSpec
    schedule: KernelSchedule
    target: TargetSpec
    best_ms: float | None = None
    reference_ms: float | None = None


@dataclass(frozen=True)
class TunedSubnets:
    """Subnets that run the winners of a log.

    Args:
        space: name of their space.
        classes: their number of classes.
        keys: of the subnets.
        folder: the log's folder; None: they run default schedules.
        own: of a model that somebody brought, see ``SearchSpace.own``.
    """

    space: str
    classes: int
    keys: tuple[str, ...]
    folder: Path | None
    own: str = ""

    @classmethod
    def of(cls, space: SearchSpace, keys: tuple[str, ...], folder: Path | None) -> Self:
        """Subnets of a space."""
        return cls(space.name, space.classes, keys, folder, space.own)

    def alone(self, key: str) -> Self:
        """One of them."""
        return replace(self, keys=(key,))

    @property
    def search_space(self) -> SearchSpace:
        """Their space."""
        return described_space(self.space, self.classes, self.own)

    @property
    def reference(self) -> TunedSubnets:
        """The subnet that is timed beside them, whatever their number of classes."""
        space = own_model(self.own) if self.own else get_space(self.space)
        return TunedSubnets.of(space, (space.middle.key,), None)

    @property
    def networks(self) -> list[NetworkSpec]:
        """What they compute."""
        space = self.search_space
        return [space.network(SubnetConfig.parse(key)) for key in self.keys]


@dataclass(frozen=True)
class SubnetJob:
    """Build subnets with random weights, and time them in turn.

    Args:
        subnets: the subnets.
        target: what they are compiled for.
        plan: how long they are timed.
    """

    subnets: TunedSubnets
    target: TargetSpec
    plan: WindowPlan

    def alone(self, key: str) -> Self:
        """The job for one of the subnets."""
        return replace(self, subnets=self.subnets.alone(key))


@dataclass(frozen=True)
class SubnetTiming:
    """The outcome of timing a subnet.

    Args:
        status: "ok", or what went wrong.
        times_ms: of each window, the median of its undisturbed calls.
        reference_ms: what the space's reference subnet took right after each of them, likewise.
        figures: of each window, see ``timing.window.Window``; none where times are estimated.
        error: why it failed.
        energy_mj: millijoules of one call, as a GPU's driver counts them; None where nothing does.

    Raises:
        ValueError: a time or a figure cannot be, or their numbers differ.
    """

    status: TrialStatus
    times_ms: tuple[float, ...] = ()
    reference_ms: tuple[float, ...] = ()
    figures: tuple[tuple[float, ...], ...] = ()
    error: str = ""
    energy_mj: Millijoules | None = None

    def __post_init__(self) -> None:
        if self.status == "ok":
            counts = {len(self.times_ms), len(self.reference_ms), len(self.figures or self.times_ms)}
            if len(counts) > 1 or not self.times_ms:
                raise ValueError("a subnet's times, those of the reference subnet, and figures must be equally many")
        require_times(self.times_ms, "a subnet's time")
        require_times(self.reference_ms, "the reference subnet's time")
        for figures in self.figures:
            Window.of(figures)

    @classmethod
    def of_answer(cls, answer: Record) -> SubnetTiming:
        """The timing in a worker's answer; "failed" where the answer cannot be one."""
        try:
            return _TIMING.validate_python(answer)
        except ValidationError as error:
            return cls("failed", error=impossible(error))


@dataclass(frozen=True)
class SubnetTimings:
    """Timings of a job's subnets, in their order."""

    timings: tuple[SubnetTiming, ...]
    status: TrialStatus = "ok"
    error: str = ""


_TIMING = TypeAdapter(SubnetTiming)
