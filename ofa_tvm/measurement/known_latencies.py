"""KnownLatencies: what was measured of a space's subnets, now and before, and the latencies that follow from it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean, median

import numpy as np

from ofa_tvm.hardware.host import host_identity
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.window import Percentile, Timing, usual_calibration_ms
from ofa_tvm.tuner.block_schedules import schedules_of
from ofa_tvm.tuner.latency_records import FILE_NAME, LatencyRecord, every_record, records_of, windows_on
from ofa_tvm.tuner.tuned_space import TunedSpace

RECENT = 50
"""Records that show how fast the machine was last."""


class KnownLatencies:
    """Latencies of a tuned space, as far as they are known.

    A subnet's latency is what this process measured (``timing``). An earlier measurement, in another hour, on another
    host or under other load, is a prior: a multiple of the reference subnet's time beside it, times what the reference
    takes now, and corrected by subnets that were measured both then and now.

    Args:
        tuned: the space on its target, whose log's records are read.
        percentile: which percentile of single calls a latency is.
        busy_cores: cores that are kept busy while measuring.
        is_live: whether a device measures: its times change from one hour to the next.
    """

    def __init__(self, tuned: TunedSpace, percentile: Percentile, busy_cores: int, is_live: bool) -> None:
        self._tuned, folder = tuned, tuned.log.folder
        self._percentile, self._busy_cores, self._is_live = percentile, busy_cores, is_live
        self.host = host_identity() if tuned.target.device == "local" else ""
        every = every_record(folder)
        self._windows = windows_on(every, self.host)
        self._before: dict[str, list[LatencyRecord]] = {}
        self._now: dict[str, list[LatencyRecord]] = {}
        records = records_of(every, tuned.space.name, tuned.own_classes)
        subnets = list(dict.fromkeys(record.subnet for record in records))
        today = dict(zip(subnets, schedules_of(tuned, list(map(self._config, subnets))), strict=True))
        for record in records:
            if record.schedules == today[record.subnet]:
                _keep(self._before, record)
        self._before = {subnet: kept for subnet, kept in self._before.items() if kept[-1].status == "ok"}
        good = [record for record in records if record.status == "ok"]
        here = [record for record in good if self._is_from_here(record)]
        self._references_ms = [median(record.reference_ms) for record in (here or good)[-RECENT:]]

    def schedules(self, subnet: str) -> str:
        """Identity of the schedules that a subnet is built with today."""
        return self._tuned.schedules(self._config(subnet))

    def _config(self, subnet: str) -> SubnetConfig:
        try:
            return self._tuned.space.parse(subnet)
        except UserError as error:
            path = self._tuned.log.folder / FILE_NAME
            hint = f"remove its lines: sed -i '/\"{subnet}\"/d' {shlex.quote(str(path))}"
            raise UserError(f"{path} has a record of {subnet}: {error.what}", hint) from error

    def _is_from_here(self, record: LatencyRecord) -> bool:
        return (record.host, record.busy_cores) == (self.host, self._busy_cores)

    @property
    def from_here(self) -> int:
        """Subnets that were measured before on this host, since its last start, under the same load."""
        return sum(self._is_from_here(records[-1]) for records in self._before.values())

    def add(self, records: Sequence[LatencyRecord]) -> None:
        """Learn what was measured just now."""
        for record in records:
            _keep(self._now, record)
            self._windows += record.windows

    def has(self, subnet: str) -> bool:
        """Whether a subnet was measured, now or before."""
        return subnet in self._before or subnet in self._now

    def needs(self, subnet: str) -> bool:
        """Whether a subnet must be measured before its latency can be reported."""
        return subnet not in self._now if self._is_live else not self.has(subnet)

    def __len__(self) -> int:
        return len(self._before.keys() | self._now.keys())

    @property
    def failures(self) -> list[str]:
        """Errors of subnets that failed now."""
        return [records[-1].error for records in self._now.values() if records[-1].status != "ok"]

    @property
    def reference_ms(self) -> float:
        """What the reference subnet takes now; where nothing was measured yet, what it took last; else 1."""
        now = [median(record.reference_ms) for kept in self._now.values() for record in kept if record.status == "ok"]
        return median(now or self._references_ms or [1.0])

    def timing(self, config: SubnetConfig) -> Timing | None:
        """What was measured of a subnet now or, where no device measures, before; None where there are no windows."""
        records = self._now.get(config.key, []) if self._is_live else self._before.get(config.key, [])
        windows = tuple(window for record in records if record.status == "ok" for window in record.windows)
        if not windows:
            return None
        return Timing(
            windows=windows,
            host=self.host,
            measured_at=records[-1].measured_at,
            usual_calibration_ms=usual_calibration_ms(self._windows),
            busy_cores=self._busy_cores,
        )

    def energy_mj(self, config: SubnetConfig) -> float | None:
        """Metered energy of a call: of today's measurements or, where no device measures, of earlier ones."""
        records = self._now.get(config.key) or ([] if self._is_live else self._before.get(config.key, []))
        metered_mj = [record.energy_mj for record in records if record.energy_mj is not None]
        return median(metered_mj) if metered_mj else None

    def metered(self) -> list[tuple[SubnetConfig, float, float]]:
        """Measurements whose energy was metered: the subnet, its latency then in ms, and millijoules of a call."""
        every = chain.from_iterable((*self._before.values(), *self._now.values()))
        return [
            (SubnetConfig.parse(record.subnet), record.latency_ms, record.energy_mj)
            for record in every
            if record.status == "ok" and record.energy_mj is not None
        ]

    def latency_ms(self, config: SubnetConfig) -> float | None:
        """What is known of a subnet's latency: measured now or else before; None where nothing is known."""
        return self._told_ms(config, self._corrections())

    def known(self) -> tuple[list[SubnetConfig], np.ndarray]:
        """Subnets measured with today's schedules, and their latencies in ms."""
        corrections = self._corrections()
        every = {config: self._told_ms(config, corrections) for config in map(SubnetConfig.parse, self._keys())}
        latencies = {config: latency_ms for config, latency_ms in every.items() if latency_ms is not None}
        return list(latencies), np.asarray(list(latencies.values()))

    def _keys(self) -> list[str]:
        return list({**self._before, **self._now})

    def _told_ms(self, config: SubnetConfig, corrections: Mapping[bool, float]) -> float | None:
        timing = self.timing(config) if self._is_live else None
        if timing is not None:
            return timing.told_ms(self._percentile)
        records = self._now.get(config.key) or self._before.get(config.key)
        if records is None or records[-1].status != "ok":
            return None
        return self.reference_ms * fmean(record.ratio * corrections[self._is_from_here(record)] for record in records)

    def _corrections(self) -> dict[bool, float]:
        """Factors that correct records from here, and all others: medians over subnets that were also measured now."""
        of_origin: dict[bool, list[float]] = {True: [], False: []}
        reference_ms = self.reference_ms
        for subnet in self._now.keys() & self._before.keys():
            timing = self.timing(SubnetConfig.parse(subnet))
            if timing is not None:
                told_ms = timing.told_ms(self._percentile)
                for record in self._before[subnet]:
                    of_origin[self._is_from_here(record)].append(told_ms / (record.ratio * reference_ms))
        return {which: median(ratios) if ratios else 1.0 for which, ratios in of_origin.items()}


def _keep(records: dict[str, list[LatencyRecord]], record: LatencyRecord) -> None:
    """Add a record to those of its subnet; a failure sets earlier ones aside, and is set aside by later ones."""
    earlier = records.get(record.subnet, [])
    is_like_the_last = bool(earlier) and earlier[-1].status == record.status == "ok"
    records[record.subnet] = [*earlier, record] if is_like_the_last else [record]
