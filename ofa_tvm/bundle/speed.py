"""How fast a bundle's library is where it runs, and whether that holds the search's budget."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ofa_tvm.bundle.folder import LIBRARY
from ofa_tvm.bundle.manifest import Latency
from ofa_tvm.compiler.codegen import Library
from ofa_tvm.compiler.loaded_model import LoadedModel, load_anew
from ofa_tvm.hardware.host import host_identity
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.nas.result import Pick
from ofa_tvm.support.console import warn
from ofa_tvm.timing.busy_cores import busy_cores
from ofa_tvm.timing.patience import until_undisturbed
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.timing.window import Percentile, Timing, Window, usual_calibration_ms
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import TunedSubnets
from ofa_tvm.tuner.latency_records import every_record, windows_on
from ofa_tvm.tuner.log import TuningLog


@dataclass(frozen=True)
class LatencyCheck:
    """What is timed, and how.

    Args:
        subnets: the one subnet, for a device that estimates.
        resolution: pixels of its images.
        target: what the library is for.
        log: the target's tuning log.
        device: where the library runs; None for this machine, or for nowhere.
        pick: the search's pick of the subnet, if a search made it.
        percentile: which percentile of single calls the latency is.
        busy_cores: cores to keep busy meanwhile.
    """

    subnets: TunedSubnets
    resolution: int
    target: TargetSpec
    log: TuningLog
    device: Device | None
    pick: Pick | None
    percentile: Percentile
    busy_cores: int

    def run(self, library: Library | None, folder: Path) -> Latency:
        """Measure or estimate; a library that runs nowhere here keeps what the search knew.

        Args:
            library: loaded; None where it cannot run.
            folder: of the bundle.
        """
        timing = estimated_ms = None
        if self.device is not None and self.target.provenance == "estimated":
            (estimate,) = self.device.time_subnets(self.subnets, self._plan)
            estimated_ms = statistics.median(estimate.times_ms)
        elif library is not None:
            timing = self._measure(library, folder)
        pick = self.pick
        return Latency(
            provenance=self.target.stored_provenance(),
            measured_ms=None if timing is None else timing.told_ms(self.percentile),
            timing=timing,
            percentile=self.percentile,
            estimated_ms=estimated_ms,
            conditions=self.target.conditions,
            predicted_ms=pick.predicted_ms if pick else None,
            predicted_low_ms=pick.predicted_low_ms if pick else None,
            predicted_high_ms=pick.predicted_high_ms if pick else None,
            search_measured_ms=pick.measured_ms if pick else None,
            search_estimated_ms=pick.estimated_ms if pick else None,
            budget_ms=pick.budget_ms if pick else None,
            budget_held=self._holds_budget(timing, estimated_ms),
        )

    def _holds_budget(self, timing: Timing | None, estimated_ms: float | None) -> bool | None:
        """Whether the latency found here holds the budget of the search's pick; None where that cannot be said."""
        budget_ms = None if self.pick is None else self.pick.budget_ms
        slowest_ms = estimated_ms if timing is None else timing.slowest_ms(self.percentile)
        if budget_ms is None or slowest_ms is None or (timing is not None and not timing.is_sound):
            return None
        if slowest_ms > budget_ms:
            warn(f"the budget of {budget_ms:g} ms does not hold now: {slowest_ms:.4g} ms; search again, or see --load")
        return slowest_ms <= budget_ms

    @property
    def _plan(self) -> WindowPlan:
        return WindowPlan(**self.target.measure.model_dump(), busy_cores=self.busy_cores)

    def _measure(self, library: Library, folder: Path) -> Timing:
        size, plan = self.resolution, self._plan
        images = np.random.default_rng(0).standard_normal((self.target.batch, size, size, 3), np.float32)
        is_here = isinstance(library, LoadedModel)

        def window() -> Window:
            loaded = load_anew(folder / LIBRARY) if is_here else library
            return Window.of(loaded.window(images, plan.window_ms))

        host = host_identity() if self.target.device == "local" else ""
        before, windows = windows_on(every_record(self.log.folder), host), list[Window]()

        def timing() -> Timing:
            return Timing(
                windows=tuple(windows),
                host=host,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                usual_calibration_ms=usual_calibration_ms([*before, *windows]),
                busy_cores=plan.busy_cores,
            )

        def measure() -> int:
            with busy_cores(plan.busy_cores):
                windows.extend(in_turn([window], plan)[0])
            return 1 - timing().is_sound

        until_undisturbed(measure)
        return timing()
