"""Window and Timing: what was measured of one subnet, and the latency that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from ofa_tvm.support.errors import UserError

Percentile = Literal[50, 90, 99]
PERCENTILES: tuple[Percentile, ...] = get_args(Percentile)
MIN_WINDOWS = 3
"""Undisturbed windows that a latency needs."""
MIN_CALLS = 3
"""Undisturbed calls that a window needs."""
MIN_KEPT = 0.25
"""Share of a window's calls that must be undisturbed."""
SLOW = 1.1
"""A window is disturbed if its calibration kernel takes longer than the usual time multiplied by this."""


def percentile_of(number: int) -> Percentile:
    """The percentile that a number names.

    Raises:
        UserError: windows do not hold it.
    """
    for percentile in PERCENTILES:
        if number == percentile:
            return percentile
    raise UserError(f"--percentile {number} is not told", f"choose one of {', '.join(map(str, PERCENTILES))}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Window(_Part):
    """Consecutive single calls after one load of a library; the fields are in the order of ``native/window.c``.

    Args:
        p50_ms: percentiles of the undisturbed calls; of all calls where none is undisturbed.
        p90_ms: likewise.
        p99_ms: likewise.
        any_p50_ms: percentiles of all calls.
        any_p90_ms: likewise.
        any_p99_ms: likewise.
        calls: how many there were.
        left_out: calls during or right after which a thread was not on a CPU.
        on_cpu: share of the window in which all threads were on a CPU; 1 where a GPU works.
        calibration_ms: time of the calibration kernel, run in between; 0 where there is none.
    """

    p50_ms: float = Field(gt=0)
    p90_ms: float = Field(gt=0)
    p99_ms: float = Field(gt=0)
    any_p50_ms: float = Field(gt=0)
    any_p90_ms: float = Field(gt=0)
    any_p99_ms: float = Field(gt=0)
    calls: int = Field(gt=0)
    left_out: int = Field(ge=0)
    on_cpu: float = Field(ge=0)
    calibration_ms: float = Field(ge=0)

    @classmethod
    def of(cls, figures: Sequence[float]) -> Self:
        """From the library's figures.

        Raises:
            ValueError: they are not possible.
        """
        if not all(math.isfinite(figure) for figure in figures):
            raise ValueError("figures of a window must be finite")
        named = dict(zip(cls.model_fields, figures, strict=True))
        return cls.model_validate({**named, "calls": int(named["calls"]), "left_out": int(named["left_out"])})

    def figures(self) -> tuple[float, ...]:
        """The inverse of ``of``."""
        return tuple(float(value) for value in self.model_dump().values())

    def is_disturbed(self, usual_ms: float) -> bool:
        """Whether too few calls were undisturbed, or the calibration kernel took longer than it usually does."""
        kept = self.calls - self.left_out
        return kept < max(min(MIN_CALLS, self.calls), MIN_KEPT * self.calls) or (
            usual_ms > 0 and self.calibration_ms > SLOW * usual_ms
        )


class Timing(_Part):
    """One subnet's windows on one host.

    The told latency is the median of the windows' percentiles, over the undisturbed windows if there are enough of
    them. A budget is held if the slowest window's percentile holds it.

    Args:
        windows: in the order in which they were taken.
        host: where they were taken, see ``host_identity``; empty for a device elsewhere.
        measured_at: the end of the last window, UTC, ISO 8601.
        usual_calibration_ms: time of the calibration kernel on that host at best.
        busy_cores: cores that were kept busy meanwhile on purpose: then all calls count.
    """

    windows: tuple[Window, ...] = Field(min_length=1)
    host: str
    measured_at: str
    usual_calibration_ms: float = Field(ge=0)
    busy_cores: int = Field(default=0, ge=0)

    @property
    def undisturbed(self) -> tuple[Window, ...]:
        """The undisturbed windows; all of them where the host was kept busy on purpose."""
        if self.busy_cores:
            return self.windows
        return tuple(window for window in self.windows if not window.is_disturbed(self.usual_calibration_ms))

    @property
    def is_sound(self) -> bool:
        """Whether there are enough undisturbed windows to say that a budget is held."""
        return len(self.undisturbed) >= MIN_WINDOWS

    def values_ms(self, percentile: Percentile = 50) -> tuple[float, ...]:
        """The percentile in each window that counts."""
        name = f"{'any_' if self.busy_cores else ''}p{percentile}_ms"
        counted = self.undisturbed if self.is_sound else self.windows
        return tuple(getattr(window, name) for window in counted)

    def told_ms(self, percentile: Percentile = 50) -> float:
        """The told latency."""
        return median(self.values_ms(percentile))

    def slowest_ms(self, percentile: Percentile = 50) -> float:
        """The slowest window's percentile, which a budget is compared with."""
        return max(self.values_ms(percentile))

    def spread_ms(self, percentile: Percentile = 50) -> tuple[float, float]:
        """The percentile in the fastest and in the slowest window."""
        values = self.values_ms(percentile)
        return min(values), max(values)

    @property
    def share_left_out(self) -> float:
        """Share of calls during or right after which other work ran; 0 where the load was on purpose."""
        if self.busy_cores:
            return 0.0
        return sum(window.left_out for window in self.windows) / sum(window.calls for window in self.windows)

    def any_ms(self, percentile: Percentile = 50) -> float:
        """The median of the windows' percentiles of all calls, disturbed or not."""
        told_ms: float = median(getattr(window, f"any_p{percentile}_ms") for window in self.windows)
        return told_ms

    @property
    def calibration_ms(self) -> float:
        """Time of the calibration kernel: the median of the windows that count."""
        return median(window.calibration_ms for window in (self.undisturbed if self.is_sound else self.windows))


def usual_calibration_ms(windows: Iterable[Window]) -> float:
    """Time of the calibration kernel at the fastest tenth of the windows; 0 where no window has one."""
    times_ms = sorted(window.calibration_ms for window in windows if window.calibration_ms)
    return times_ms[len(times_ms) // 10] if times_ms else 0.0
