"""From tuned kernels and a device to a latency model: measure sampled subnets, fit, report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol

import numpy as np

from ofa_tvm.compiler.lowering import kernel_calls, kernel_set
from ofa_tvm.cost_model.baselines import OURS, compare
from ofa_tvm.cost_model.importance import importance
from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.learning_curve import doubled, learning_curve
from ofa_tvm.devices.replay import ReplayDevice
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.kernel_times import latency_table
from ofa_tvm.spaces import SearchSpace, SubnetConfig, get_space
from ofa_tvm.support.console import Task, log
from ofa_tvm.support.errors import PartialResult
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records, read_records
from ofa_tvm.tuner.log import TuningLog

FEWEST = 20
"""Subnets that a model needs."""
UNUSUAL = 1.25
"""A reference subnet that is so many times slower or faster than usual is worth a word."""
RECENT = 50
"""Records that say how fast the machine usually is: the last ones that it starts with."""
MOST_FAILURES = 20
"""Failed measurements after which no more subnets are drawn."""


class NetworkDevice(Protocol):
    """What times whole subnets: a machine, or a recording of one."""

    def network(self, space: str, classes: int, subnet: str, folder: Path) -> dict[str, Any]:
        """``status``, ``times_ms`` and ``reference_ms`` of a subnet with so many classes and the winners of a log."""
        ...


def own_classes(space: SearchSpace) -> int | None:
    """The number of classes where it is not that of the space itself."""
    return None if space.classes == get_space(space.name).classes else space.classes


def model_folder(tuning_log: TuningLog, space: SearchSpace) -> Path:
    """Where the latency model of a space and its number of classes is kept."""
    classes = own_classes(space)
    return tuning_log.folder / (space.name if classes is None else f"{space.name}-{classes}c")


class LatencyBench:
    """Measured latencies of one space on one target, and the model learned from them.

    Latencies are told at the machine's usual speed: the subnet's time as a multiple of a reference subnet's that ran in
    turn with it, times what the reference usually takes. So they compare, whenever they were measured.

    Args:
        space: the space.
        target: the target, measured under its conditions.
        tuning_log: the target's log, where records are kept; held exclusively by the caller while measuring.
        device: times subnets; None where that happens elsewhere, see ``wanted``. A recording times what it holds.
    """

    def __init__(
        self, space: SearchSpace, target: TargetSpec, tuning_log: TuningLog, device: NetworkDevice | None
    ) -> None:
        self.space, self.target, self.log, self._device = space, target, tuning_log, device
        self.table, self.estimated_kernels = latency_table(space, target, tuning_log)
        self._other_classes = own_classes(space)
        records = read_records(tuning_log.folder, space.name, self._other_classes)
        self._references_ms = [median(record.reference_ms) for record in records if record.status == "ok"]
        self._references_ms = self._references_ms[-RECENT:]
        self._is_unusual = False
        self._recorded = device.subnets(space) if isinstance(device, ReplayDevice) else None
        self.wanted: dict[str, SubnetConfig] = {}
        """Subnets that were to be measured, by key, where no device is at hand that can."""
        self._known: dict[str, list[LatencyRecord]] = {}
        for record in records:
            if record.schedules == self._schedules(record.subnet):
                self._keep(record)
        self._known = {subnet: kept for subnet, kept in self._known.items() if kept[-1].status == "ok"}

    @property
    def can_measure(self) -> bool:
        """Whether a device is at hand that can time any subnet."""
        return self._device is not None and self._recorded is None

    def _device_for(self, config: SubnetConfig) -> NetworkDevice | None:
        return self._device if self._recorded is None or config in self._recorded else None

    @property
    def folder(self) -> Path:
        """Where the model of this space and number of classes is kept."""
        return model_folder(self.log, self.space)

    def _schedules(self, subnet: str) -> str:
        network = self.space.network(SubnetConfig.parse(subnet))
        return self.log.schedules_digest([kernel.key for kernel in kernel_calls(network, self.target)])

    @property
    def reference_ms(self) -> float:
        """What the reference subnet usually takes; settled once there are ``RECENT`` records."""
        return median(self._references_ms)

    def latency_ms(self, config: SubnetConfig) -> float | None:
        """A measured latency at the machine's usual speed, the mean of all measurements; None where there is none."""
        records = self._known.get(config.key)
        if records is None or records[-1].status != "ok":
            return None
        return fmean(record.ratio for record in records) * self.reference_ms

    def known(self) -> tuple[list[SubnetConfig], np.ndarray]:
        """Subnets measured with today's schedules, and their latencies in ms."""
        latencies = {key: self.latency_ms(SubnetConfig.parse(key)) for key in self._known}
        good = {key: latency_ms for key, latency_ms in latencies.items() if latency_ms is not None}
        return [SubnetConfig.parse(key) for key in good], np.asarray(list(good.values()))

    def _keep(self, record: LatencyRecord) -> None:
        """Add a record to those of its subnet; a failure sets earlier ones aside, and is set aside by later ones."""
        earlier = self._known.get(record.subnet, [])
        is_like_the_last = bool(earlier) and earlier[-1].status == record.status == "ok"
        self._known[record.subnet] = [*earlier, record] if is_like_the_last else [record]

    def measure(self, configs: Sequence[SubnetConfig], title: str = "measuring subnets") -> list[float | None]:
        """Latencies in ms in the given order; subnets not known yet are measured, each appended at once.

        None stands for a measurement that failed, or that no device is at hand for.
        """
        new = [config for config in configs if config.key not in self._known]
        timed = [(device, config) for config in new if (device := self._device_for(config)) is not None]
        self.wanted |= {config.key: config for config in new if self._device_for(config) is None}
        if timed:
            with Task(title, len(timed)) as task:
                for device, config in timed:
                    task.advance(note=self._note(self._measure(device, config.key)))
        return [self.latency_ms(config) for config in configs]

    def confirm(self, config: SubnetConfig, times: int = 1) -> float | None:
        """Measure a subnet again, whatever is known of it, if a device is at hand; the latency of all times in ms."""
        if (device := self._device_for(config)) is not None:
            for _ in range(times):
                self._measure(device, config.key)
        return self.latency_ms(config)

    def _measure(self, device: NetworkDevice, subnet: str) -> LatencyRecord:
        answer = device.network(self.space.name, self.space.classes, subnet, self.log.folder)
        record = LatencyRecord(
            space=self.space.name,
            subnet=subnet,
            status=answer["status"],
            times_ms=tuple(answer.get("times_ms", ())),
            reference_ms=tuple(answer.get("reference_ms", ())),
            schedules=self._schedules(subnet),
            provenance=self.target.stored_provenance(),
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            error=answer.get("error", ""),
            classes=self._other_classes,
        )
        append_records(self.log.folder, [record])
        self._keep(record)
        if record.status == "ok":
            self._watch(median(record.reference_ms))
        return record

    def _watch(self, reference_ms: float) -> None:
        """Learn how fast the machine is, and say once when that is not as usual."""
        if len(self._references_ms) < RECENT:
            self._references_ms.append(reference_ms)
        slowness = reference_ms / self.reference_ms
        if not self._is_unusual and not 1 / UNUSUAL < slowness < UNUSUAL:
            self._is_unusual = True
            log(f"a reference subnet takes {slowness:.2f}x its usual time now; latencies are told as if it were usual")

    def _note(self, record: LatencyRecord) -> str:
        if record.status != "ok":
            return f"{record.status}: {record.error}"
        return f"{record.ratio * self.reference_ms:.3f} ms"

    def model(self, samples: int, seed: int = 0, resolutions: Sequence[int] | None = None) -> LatencyModel:
        """The model from ``samples`` random subnets or more, measuring those that are missing.

        A subnet that fails is replaced by another one; after ``MOST_FAILURES`` the model is made of what there is.

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
            self._measure_random(self._device, missing, unknown)
        return self.fit()

    def _unknown(self, space: SearchSpace, rng: np.random.Generator, count: int) -> Iterator[SubnetConfig]:
        """Random subnets that are not known at the time, drawn ``count`` at once, until all of the space are."""
        if self._recorded is not None:
            drawn = [self._recorded[row] for row in rng.permutation(len(self._recorded))]
            yield from (one for one in drawn if one.key not in self._known and one.resolution in space.resolutions)
            return
        while len(self._known) < space.cardinality:
            for config in space.sample_configs(rng, count):
                if config.key not in self._known:
                    yield config

    def _measure_random(self, device: NetworkDevice, wanted: int, configs: Iterator[SubnetConfig]) -> None:
        """Measure until ``wanted`` are good, ``MOST_FAILURES`` have failed or none is left."""
        good = failures = 0
        with Task("measuring subnets", wanted) as task:
            while good < wanted and failures < MOST_FAILURES and (config := next(configs, None)) is not None:
                record = self._measure(device, config.key)
                ok = record.status == "ok"
                good, failures = good + ok, failures + (not ok)
                task.advance(int(ok), note=self._note(record))
        if good < wanted:
            log(f"{good} of {wanted} subnets were measured, {failures} failed")

    def fit(self) -> LatencyModel:
        """The model from everything known now; ``report`` saves it.

        Raises:
            PartialResult: fewer than ``FEWEST`` subnets could be measured.
        """
        configs, latency_ms = self.known()
        if len(configs) < FEWEST:
            failed = [records[-1].error for records in self._known.values() if records[-1].status != "ok"]
            more = "--samples" if self._device is not None else f"tune --export-pack FOLDER --samples {2 * FEWEST}"
            raise PartialResult(
                f"only {len(configs)} subnets could be measured, a latency model needs {FEWEST}",
                f"the last failure: {failed[-1]}" if failed else f"measure more with {more}",
            )
        return LatencyModel.fit(self.table, configs, latency_ms)

    def report(self) -> dict[str, Any]:
        """Errors of the model and of what it has to beat, and what it rests on; saves the model with them."""
        configs, latency_ms = self.known()
        compared = compare(self.table, configs, latency_ms)
        model = LatencyModel.fit(self.table, configs, latency_ms)
        curve = learning_curve(self.table, LatencyData(tuple(configs), latency_ms))
        report = {
            **compared["methods"][OURS],
            **compared,
            "estimated_kernels": self.estimated_kernels,
            "reference_ms": self.reference_ms,
            "learning_curve": curve,
            "mape_with_twice_the_samples": doubled(curve),
            "importance": importance(model, self.space.genomes(configs)),
        }
        model.save(self.folder, report)
        return report


def warn_of_estimates(bench: LatencyBench, resolutions: Sequence[int] | None = None) -> None:
    """Say when kernels of the space, or of these resolutions of it, are not tuned."""
    tuned = {key for key, state in bench.log.kernels.items() if state.best_ms is not None}
    needed = kernel_set(bench.space, bench.space.choose_resolutions(resolutions), bench.target)
    missing = len(needed.keys() - tuned)
    if missing:
        log(
            f"{missing} kernels of {bench.space.name} are not tuned for {bench.target.name}: they run their default "
            "schedule and their times are estimated; 'python -m ofa_tvm.tune' tunes them"
        )
