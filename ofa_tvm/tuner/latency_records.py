"""Latency records: end-to-end times of tuned subnets on one device, appended as they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, model_validator

from ofa_tvm.hardware.target import Provenance
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.support.typed import Count, Millijoules, Milliseconds, Positive, SubnetKey, read_lines
from ofa_tvm.timing.window import Window
from ofa_tvm.tuner.trial import TrialStatus

FILE_NAME = "latency.jsonl"
RECENT = 100
"""Records that show how fast a host is at best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRecord:
    """One subnet's measurement.

    Args:
        space: name of the space.
        subnet: key of the subnet.
        status: "ok", or what went wrong ("failed", "crashed", "timed_out", "wrong_output").
        times_ms: of each window, the median of its undisturbed calls; raw repeats in records of older versions.
        reference_ms: what the space's reference subnet took right after each of them, likewise.
        schedules: identity of the schedules that it was built with; other schedules make it stale.
        provenance: how the times were obtained.
        measured_at: UTC, ISO 8601.
        error: why it failed.
        classes: number of classes, where it is not the space's own.
        figures: of each window, see ``timing.window.Window``; none in records of older versions and of estimates.
        host: where it was measured, see ``host_identity``; empty for a device elsewhere, and in older records.
        busy_cores: cores that were kept busy meanwhile on purpose.
        energy_mj: millijoules of one call, as a GPU's driver counts them; None where nothing does.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    space: str
    subnet: SubnetKey
    status: TrialStatus
    times_ms: tuple[Milliseconds, ...]
    reference_ms: tuple[Milliseconds, ...] = ()
    schedules: str
    provenance: Provenance
    measured_at: str
    error: str = ""
    classes: Positive | None = None
    figures: tuple[tuple[float, ...], ...] = ()
    host: str = ""
    busy_cores: Count = 0
    energy_mj: Millijoules | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        windows = self.windows
        if self.status == "ok" and not self.times_ms:
            raise ValueError("a subnet that is ok has times")
        if self.reference_ms and len(self.reference_ms) != len(self.times_ms):
            raise ValueError("there is a time of the reference for each time, or for none")
        if windows and tuple(window.p50_ms for window in windows) != self.times_ms:
            raise ValueError("times_ms are not those of the figures")
        return self

    @property
    def windows(self) -> tuple[Window, ...]:
        """The figures by name."""
        return tuple(map(Window.of, self.figures))

    @property
    def latency_ms(self) -> float:
        """Median of the repeats, at the speed that the machine had at the time."""
        return median(self.times_ms)

    @property
    def ratio(self) -> float:
        """Median of the repeats, each as a multiple of the reference subnet's time beside it."""
        return median(time_ms / other for time_ms, other in zip(self.times_ms, self.reference_ms, strict=True))


LATENCY_RECORD = TypeAdapter(LatencyRecord)


def append_records(folder: Path, records: Sequence[LatencyRecord]) -> None:
    """Append to a log's folder."""
    append_jsonl(folder / FILE_NAME, [asdict(record) for record in records])


def read_records(folder: Path, space: str, classes: int | None = None) -> list[LatencyRecord]:
    """All records of a space in a log's folder; those of versions that timed no reference subnet are left out.

    Args:
        folder: the log's folder.
        space: name of the space.
        classes: number of classes, where it is not the space's own.

    Raises:
        UserError: a line is damaged or of another form.
    """
    return records_of(every_record(folder), space, classes)


def records_of(every: Sequence[LatencyRecord], space: str, classes: int | None = None) -> list[LatencyRecord]:
    """Those of a space; see ``read_records``."""
    return [record for record in every if (record.space, record.classes) == (space, classes) and has_reference(record)]


def windows_on(every: Sequence[LatencyRecord], host: str) -> list[Window]:
    """The last windows that were measured on a host left alone, of every space."""
    here = [record for record in every if record.host == host and not record.busy_cores]
    return [window for record in here[-RECENT:] for window in record.windows]


def has_reference(record: LatencyRecord) -> bool:
    """Whether the reference subnet was timed beside it, as older versions did not; failures need none."""
    return record.status != "ok" or len(record.reference_ms) == len(record.times_ms) > 0


def every_record(folder: Path) -> list[LatencyRecord]:
    """The records of all spaces in a log's folder.

    Raises:
        UserError: a line is damaged or of another form.
    """
    return read_lines(folder / FILE_NAME, "latency records", LATENCY_RECORD)
