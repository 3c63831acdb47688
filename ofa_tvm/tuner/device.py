"""What a device is: where kernels are tried, and subnets are timed and run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ofa_tvm.compiler.codegen import Library
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.closing import Closing
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.calm import until_calm
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult


class Device(Closing):
    """A machine, a board, an estimate of one, or a recording."""

    @abstractmethod
    def start(self) -> None:
        """Wait until it is ready.

        Raises:
            DeviceUnreachable: it cannot be used.
        """

    @abstractmethod
    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Build and time candidates, and check those that beat ``best_ms``; their results in order, as they come."""

    @abstractmethod
    def time_subnets(self, subnets: TunedSubnets, plan: WindowPlan) -> list[SubnetTiming]:
        """Time subnets, in turn where it can."""

    def load(self, library: Path) -> Library:
        """Load a subnet's library, where the device can run it.

        Raises:
            UserError: nothing runs there.
        """
        raise UserError(f"{library} cannot run: this device only answers", "leave out --device")

    def boards(self) -> list[Record]:
        """What is known of its boards; empty where it has none."""
        return []

    def calibrate_to(self, tuning_log: TuningLog) -> None:
        """Normalise times of kernels to the speed at which a log was measured, where a device's own speed changes."""


class SerialDevice(Device):
    """A device that runs one trial at a time.

    ``reference_ms`` is what a reference kernel took when the log began, where one is timed beside every trial;
    ``max_noise`` is how many times that it may take, see ``calm.until_calm``.
    """

    reference_ms: float | None = None
    max_noise: float | None = None

    @abstractmethod
    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Build, time and, if it beats ``best_ms``, check a candidate."""

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Results of candidates in their order, as they come; each has to beat those before."""
        for candidate in candidates:
            trial = partial(self.trial, spec, candidate, best_ms)
            result = until_calm(trial, self.reference_ms, self.max_noise)
            yield result
            if result.best_ms is not None and result.is_checked:
                best_ms = result.best_ms if best_ms is None else min(best_ms, result.best_ms)
