"""Window and Timing: what was measured of one subnet, and what is told of it."""

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
"""Undisturbed windows that a latency rests on."""
MIN_CALLS = 3
"""Undisturbed calls that a window rests on."""
MIN_KEPT = 0.25
"""Share of a window's calls that must be undisturbed."""
SLOW = 1.1
"""Times the usual that a calibration kernel takes in a window that others disturb."""


def percentile_of(number: int) -> Percentile:
    """The percentile that a number names.

    Raises:
        UserError: nothing tells it.
    """
    for percentile in PERCENTILES:
        if number == percentile:
            return percentile
    raise UserError(f"--percentile {number} is not told", f"choose one of {', '.join(map(str, PERCENTILES))}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Window(_Part):
    """Single calls in a row on one load of a library; as ``native/window.c`` tells it, in this order.

    Args:
        p50_ms: percentiles of the calls that nothing disturbed; of all, where that is none.
        p90_ms: likewise.
        p99_ms: likewise.
        any_p50_ms: percentiles of all calls.
        any_p90_ms: likewise.
        any_p99_ms: likewise.
        calls: how many there were.
        left_out: those among them during or right after which a thread was not on a CPU.
        on_cpu: share of the window in which all threads were on one; 1 where a GPU works.
        calibration_ms: the calibration kernel, timed in between; 0 where there is none.
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
            ValueError: they cannot be.
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

    What is told is the median of the windows' percentiles, of those windows that nothing disturbed where there are
    enough of them. A budget is held where the slowest window's percentile holds it.

    Args:
        windows: in the order in which they were taken.
        host: where, see ``host_identity``; empty for a device elsewhere.
        measured_at: the end of the last window, UTC, ISO 8601.
        usual_calibration_ms: what the calibration kernel takes on that host at best.
        busy_cores: cores that were kept busy meanwhile on purpose: then all calls count.
    """

    windows: tuple[Window, ...] = Field(min_length=1)
    host: str
    measured_at: str
    usual_calibration_ms: float = Field(ge=0)
    busy_cores: int = Field(default=0, ge=0)

    @property
    def undisturbed(self) -> tuple[Window, ...]:
        """The windows that nothing disturbed; all of them where the host was kept busy on purpose."""
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
        """What is told of the latency."""
        return median(self.values_ms(percentile))

    def slowest_ms(self, percentile: Percentile = 50) -> float:
        """What a budget is held against."""
        return max(self.values_ms(percentile))

    def spread_ms(self, percentile: Percentile = 50) -> tuple[float, float]:
        """The fastest and the slowest window's."""
        values = self.values_ms(percentile)
        return min(values), max(values)

    @property
    def share_left_out(self) -> float:
        """Of all calls, those during or right after which other work was done; 0 where that was wanted."""
        if self.busy_cores:
            return 0.0
        return sum(window.left_out for window in self.windows) / sum(window.calls for window in self.windows)

    def any_ms(self, percentile: Percentile = 50) -> float:
        """The median of the windows' percentiles of all calls, disturbed or not."""
        told_ms: float = median(getattr(window, f"any_p{percentile}_ms") for window in self.windows)
        return told_ms

    @property
    def calibration_ms(self) -> float:
        """The calibration kernel, median of the windows that count."""
        return median(window.calibration_ms for window in (self.undisturbed if self.is_sound else self.windows))


def usual_calibration_ms(windows: Iterable[Window]) -> float:
    """What the calibration kernel takes in the fastest tenth of windows; 0 where nobody knows."""
    times_ms = sorted(window.calibration_ms for window in windows if window.calibration_ms)
    return times_ms[len(times_ms) // 10] if times_ms else 0.0
