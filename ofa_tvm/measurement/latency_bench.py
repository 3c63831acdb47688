"""From tuned kernels and a device to a latency model: measure sampled subnets, fit, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import islice
from statistics import median

import numpy as np

from ofa_tvm.cost_model.baselines import OURS, compare
from ofa_tvm.cost_model.importance import importance
from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.learning_curve import doubled, learning_curve
from ofa_tvm.cost_model.power import UNKNOWN, Power
from ofa_tvm.devices.replay import ReplayDevice
from ofa_tvm.measurement.kernel_times import how_to_tune, latency_table
from ofa_tvm.measurement.known_latencies import KnownLatencies
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.subnet_table import QUANTITIES
from ofa_tvm.support.console import Task, log, warn
from ofa_tvm.support.errors import NotTuned, PartialResult
from ofa_tvm.support.files import Record
from ofa_tvm.support.steps import steps_before
from ofa_tvm.timing.patience import until_undisturbed
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.timing.window import MIN_WINDOWS, Percentile, Timing
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.job import SubnetTiming, TunedSubnets
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records
from ofa_tvm.tuner.tuned_space import TunedSpace

MIN_MEASURED = 20
"""Subnets that a model needs."""
MAX_FAILURES = 20
"""Failed measurements after which no more subnets are drawn."""
GROUP = 8
"""Subnets that are timed in turn, so that each one's windows are seconds apart without waiting."""
CONFIRMING = WindowPlan(windows=5, window_ms=100, gap_s=2)
"""How a subnet is measured before it is offered."""
ANCHORS, NEW_ANCHORS = 4, 12
"""Known subnets that are measured first, to learn how fast the machine is now; more where others were measured."""
UNUSUAL = 1.1
"""A machine this many times slower or faster than in the records is worth a message."""


class LatencyBench:
    """Measures subnets of a tuned space; what is known of them, and the model learned from that.

    Args:
        tuned: the space on its target, measured under its conditions. Its log, where records are kept, is held
            exclusively by the caller while measuring.
        device: times subnets; None where they are timed elsewhere, see ``wanted``. A recording gives what it holds.
        percentile: which percentile of single calls a latency is.
        busy_cores: cores to keep busy while measuring.
    """

    def __init__(
        self, tuned: TunedSpace, device: Device | None, percentile: Percentile = 50, busy_cores: int = 0
    ) -> None:
        self.tuned, self.space, self.target, self.log = tuned, tuned.space, tuned.target, tuned.log
        self._device, self.percentile, self.busy_cores = device, percentile, busy_cores
        self.table, self.estimated_kernels = latency_table(tuned)
        self._recorded = device.subnets(self.space) if isinstance(device, ReplayDevice) else None
        self._is_live = self.can_measure and self.target.provenance == "measured"
        self._known = KnownLatencies(tuned, percentile, busy_cores, self._is_live)
        self.wanted: dict[str, SubnetConfig] = {}
        """Subnets that should be measured, by key, but for which no device is at hand."""

    @property
    def can_measure(self) -> bool:
        """Whether a device is at hand that can time any subnet."""
        return self._device is not None and self._recorded is None

    def _device_for(self, config: SubnetConfig) -> Device | None:
        return self._device if self._recorded is None or config in self._recorded else None

    @property
    def reference_ms(self) -> float:
        """What the reference subnet takes now; see ``KnownLatencies``."""
        return self._known.reference_ms

    def timing(self, config: SubnetConfig) -> Timing | None:
        """What was measured of a subnet now; see ``KnownLatencies``."""
        return self._known.timing(config)

    def latency_ms(self, config: SubnetConfig) -> float | None:
        """What is known of a subnet's latency; see ``KnownLatencies``."""
        return self._known.latency_ms(config)

    def energy_mj(self, config: SubnetConfig) -> float | None:
        """Metered energy of a call; see ``KnownLatencies``."""
        return self._known.energy_mj(config)

    def power(self) -> Power:
        """What calls draw: by the cores that they keep busy, or a GPU's as metered; ``UNKNOWN`` where nothing was."""
        if not self.target.is_gpu:
            return Power.of_cores(self.target.threads)
        metered = self._known.metered()
        if not metered:
            return UNKNOWN
        configs, latency_ms, energy_mj = zip(*metered, strict=True)
        macs = self.table.quantities(self.space.genomes(list(configs)))[:, QUANTITIES.index("macs")]
        return Power.fit(np.asarray(latency_ms), macs / 1e6, np.asarray(energy_mj))

    def slowest_ms(self, config: SubnetConfig) -> float | None:
        """The latency that a budget is compared with: the slowest window's or, without windows, what is known."""
        timing = self.timing(config)
        return self.latency_ms(config) if timing is None else timing.slowest_ms(self.percentile)

    def known(self) -> tuple[list[SubnetConfig], np.ndarray]:
        """Subnets measured with today's schedules, and their latencies in ms."""
        return self._known.known()

    def measure(self, configs: Sequence[SubnetConfig], title: str = "measuring subnets") -> list[float | None]:
        """Latencies in ms in the given order; what a device measures is measured now, each appended at once.

        None stands for a measurement that failed, or for which no device is at hand.
        """
        new = [config for config in configs if self._known.needs(config.key)]
        timed = [config for config in new if self._device_for(config) is not None]
        self.wanted |= {config.key: config for config in new if self._device_for(config) is None}
        if self._device is None:
            self.wanted |= {config.key: config for config in configs if self._is_unsound(config)}
        if timed:
            with Task(title, len(timed)) as task:
                for start in range(0, len(timed), GROUP):
                    group = timed[start : start + GROUP]
                    records = self._measure_soundly([config.key for config in group], self._plan)
                    task.advance(len(group), note=self._note(records[-1]))
        return [self.latency_ms(config) for config in configs]

    @property
    def _plan(self) -> WindowPlan:
        return WindowPlan(**self.target.measure.model_dump(), busy_cores=self.busy_cores)

    def anchor(self) -> None:
        """Learn how fast the machine is now from known subnets; does nothing where no device measures."""
        configs, latency_ms = self.known()
        if not self._is_live or not configs:
            return
        count = min(len(configs), ANCHORS if self._known.from_here >= MIN_MEASURED else NEW_ANCHORS)
        places = np.linspace(0, len(configs) - 1, count).round().astype(int)
        chosen = [configs[row] for row in np.argsort(latency_ms)[places]]
        before_ms = [self.latency_ms(config) for config in chosen]
        now_ms = self.measure(chosen, "measuring this machine's speed")
        changes = [now / before for now, before in zip(now_ms, before_ms, strict=True) if now and before]
        if changes and not 1 / UNUSUAL < median(changes) < UNUSUAL:
            log(f"subnets take {median(changes):.2f}x the time that the records tell; what is told is today's")

    def confirm(self, config: SubnetConfig) -> Timing | None:
        """Measure a subnet again for longer, whatever is known of it, if a device is at hand that measures."""
        if self._is_live:
            self._measure_soundly([config.key], replace(CONFIRMING, busy_cores=self.busy_cores))
        return self.timing(config)

    def _measure_soundly(self, subnets: Sequence[str], plan: WindowPlan) -> list[LatencyRecord]:
        """Measure; wait and measure again those subnets that other processes disturbed."""
        wanted, records = list(subnets), list[LatencyRecord]()

        def measure() -> int:
            records[:] = self._measure(wanted, plan)
            wanted[:] = [subnet for subnet in wanted if self._is_disturbed(subnet)]
            return len(wanted)

        until_undisturbed(measure)
        return records

    def _is_disturbed(self, subnet: str) -> bool:
        config = SubnetConfig.parse(subnet)
        timing = self.timing(config) if self._is_live else None
        return self._is_unsound(config) and timing is not None and len(timing.windows) >= MIN_WINDOWS

    def _is_unsound(self, config: SubnetConfig) -> bool:
        timing = self.timing(config)
        return timing is not None and not timing.is_sound

    def _measure(self, subnets: Sequence[str], plan: WindowPlan) -> list[LatencyRecord]:
        assert self._device is not None
        wanted = TunedSubnets.of(self.space, tuple(subnets), self.log.folder)
        timings = self._device.time_subnets(wanted, plan)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        records = [self._record(subnet, timing, now) for subnet, timing in zip(subnets, timings, strict=True)]
        append_records(self.log.folder, records)
        self._known.add(records)
        return records

    def _record(self, subnet: str, timing: SubnetTiming, now: str) -> LatencyRecord:
        return LatencyRecord(
            space=self.space.name,
            subnet=subnet,
            **asdict(timing),
            schedules=self._known.schedules(subnet),
            provenance=self.target.stored_provenance(),
            measured_at=now,
            classes=self.tuned.own_classes,
            host=self._known.host,
            busy_cores=self.busy_cores,
        )

    def _note(self, record: LatencyRecord) -> str:
        if record.status != "ok":
            return f"{record.status}: {record.error}"
        return f"{self.latency_ms(SubnetConfig.parse(record.subnet)):.3f} ms"

    def measure_samples(self, samples: int, seed: int = 0, resolutions: Sequence[int] | None = None) -> LatencyModel:
        """The model from ``samples`` random subnets or more, measuring those that are missing.

        A subnet that fails is replaced by another one; after ``MAX_FAILURES`` the model is fitted to what is known.

        Args:
            samples: subnets to know.
            seed: of those that are drawn.
            resolutions: input sizes of those that are drawn; None for all of the space.

        Raises:
            PartialResult: too many measurements failed.
        """
        missing = samples - len(self.known()[0])
        if missing > 0 and self._device is not None:
            drawn = self.space.with_resolutions(resolutions)
            unknown = self._unknown(drawn, np.random.default_rng(seed), samples)
            self._measure_random(missing, unknown)
        return self.fit()

    def _unknown(self, space: SearchSpace, rng: np.random.Generator, count: int) -> Iterator[SubnetConfig]:
        """Random subnets that are not known at the time, drawn ``count`` at once, until all of the space are."""

        def is_new(config: SubnetConfig) -> bool:
            return not self._known.has(config.key)

        if self._recorded is not None:
            drawn = [self._recorded[row] for row in rng.permutation(len(self._recorded))]
            yield from (
                drawn_config
                for drawn_config in drawn
                if is_new(drawn_config) and drawn_config.resolution in space.resolutions
            )
            return
        while len(self._known) < space.cardinality:
            yield from filter(is_new, space.sample_configs(rng, count))

    def _measure_random(self, wanted: int, configs: Iterator[SubnetConfig]) -> None:
        """Measure until ``wanted`` are good, ``MAX_FAILURES`` have failed or none is left."""
        good = failures = 0
        with Task("measuring subnets", wanted) as task:
            while good < wanted and failures < MAX_FAILURES:
                group = list(islice(configs, min(GROUP, wanted - good, MAX_FAILURES - failures)))
                if not group:
                    break
                records = self._measure(list(dict.fromkeys(config.key for config in group)), self._plan)
                ok = sum(record.status == "ok" for record in records)
                good, failures = good + ok, failures + len(records) - ok
                task.advance(ok, note=self._note(records[-1]))
        if good < wanted:
            warn(f"{good} of {wanted} subnets were measured, {failures} failed")

    def fit(self) -> LatencyModel:
        """The model from everything known now; ``fit_and_save`` saves it.

        Raises:
            PartialResult: fewer than ``MIN_MEASURED`` subnets could be measured.
            NotTuned: so few were measured elsewhere.
        """
        configs, latency_ms = self.known()
        if len(configs) < MIN_MEASURED:
            if self._device is None:
                raise too_few_elsewhere(self.tuned, len(configs))
            failed = self._known.failures
            raise PartialResult(
                f"only {len(configs)} subnets could be measured, a latency model needs {MIN_MEASURED}",
                f"the last failure: {failed[-1]}" if failed else "measure more with --samples",
            )
        return LatencyModel.fit(self.table, configs, latency_ms)

    def fit_and_save(self) -> Record:
        """Fit the model and save it with its report: errors of it and of the baselines, and what it rests on."""
        configs, latency_ms = self.known()
        with Task("rating the latency model", 3) as task:
            compared = compare(self.table, configs, latency_ms)
            task.advance(note="cross-validated")
            curve = learning_curve(self.table, LatencyData(tuple(configs), latency_ms))
            task.advance(note="with fewer samples")
            model = LatencyModel.fit(self.table, configs, latency_ms)
            rests_on = importance(model, self.space.genomes(configs))
            task.advance(note="what it rests on")
        report = {
            **compared["methods"][OURS],
            **compared,
            "estimated_kernels": self.estimated_kernels,
            "reference_ms": self.reference_ms,
            "learning_curve": [asdict(point) for point in curve],
            "mape_with_twice_the_samples": doubled(curve),
            "importance": rests_on,
        }
        if self.percentile == 50 and not self.busy_cores:  # readers of the model assume this
            model.save(self.tuned.model_folder, report)
        return report


def too_few_elsewhere(tuned: TunedSpace, known: int) -> NotTuned:
    """The error of a target that packs measure, of which too few subnets are known."""
    return NotTuned(
        f"packs measured {known} subnets of {tuned.space.name} on {tuned.target.name} with today's schedules, "
        f"a latency model needs {MIN_MEASURED}",
        how_to_tune(tuned.space, tuned.log, f" --samples {2 * MIN_MEASURED}"),
    )


def warn_of_estimates(bench: LatencyBench, resolutions: Sequence[int] | None = None) -> None:
    """Say when kernels of the space, or of these resolutions of it, are not tuned; not after a step that said so."""
    tuned = {key for key, state in bench.log.kernels.items() if state.best_ms is not None}
    needed = bench.tuned.kernels(bench.space.choose_resolutions(resolutions))
    missing = len(needed.keys() - tuned)
    if missing and "tune" not in steps_before():
        warn(
            f"beware: {missing} of {len(needed)} kernels of {bench.space.name} are not tuned for {bench.target.name}: "
            "they run their default schedule, and the latency model begins with estimates of them; "
            + how_to_tune(bench.space, bench.log, is_needed=False)
        )
