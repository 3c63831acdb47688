"""Readings of a power meter: a CSV file with the columns ``time`` and ``watts``."""

from __future__ import annotations

import bisect
import csv
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import require_regular
from ofa_tvm.support.ledger import JOULE_PER_KWH, Cost

LONGEST_GAP_S = 60.0
"""Between readings; a longer one leaves unknown what was drawn meanwhile."""
_FORM = "one reading a line below the header time,watts; time is ISO 8601 (UTC where it names no zone) or Unix seconds"


@dataclass(frozen=True)
class PowerReadings:
    """What a meter read, in the order of time: Unix seconds and watts."""

    name: str
    seconds: tuple[float, ...]
    watts: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> PowerReadings:
        """Read a file; other columns are left alone.

        Raises:
            UserError: it is missing or damaged; names the line.
        """
        require_regular(path, "power readings", _FORM)
        try:
            with path.open(newline="") as file:
                rows = csv.DictReader(file)
                columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
                if not {"time", "watts"} <= columns.keys():
                    raise UserError(f"{path} has no columns time and watts", _FORM)
                readings = [
                    _reading(path, rows.line_num, row.get(columns["time"]), row.get(columns["watts"])) for row in rows
                ]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"power readings {path} cannot be read: {error}", _FORM) from error
        if len(readings) < 2:
            raise UserError(f"{path} has {len(readings)} readings; energy takes two or more", _FORM)
        if any(one[0] >= other[0] for one, other in pairwise(readings)):
            raise UserError(
                f"the times in {path} do not grow from line to line", "sort its lines, and keep one meter's"
            )
        return cls(path.name, *zip(*readings, strict=True))

    def joules(self, start: float, end: float) -> float | None:
        """Energy between two times in Unix seconds, straight between readings; None where they leave a gap."""
        if start < self.seconds[0] or end > self.seconds[-1]:
            return None
        first, last = bisect.bisect_right(self.seconds, start), bisect.bisect_left(self.seconds, end)
        times = [start, *self.seconds[first:last], end]
        known = list(self.seconds[max(0, first - 1) : last + 1])
        if any(after - before > LONGEST_GAP_S for before, after in pairwise(known)):
            return None
        drawn = [self._at(time) for time in times]
        return sum(
            (after - before) * (one + other) / 2
            for (before, after), (one, other) in zip(pairwise(times), pairwise(drawn), strict=True)
        )

    def metered(self, cost: Cost) -> Cost:
        """A cost with the energy that the meter read during it; as it was where the meter does not cover it."""
        if not cost.ended_at:
            return cost
        end = datetime.fromisoformat(cost.ended_at).timestamp()
        joules = self.joules(end - cost.wall_s, end)
        if joules is None:
            return cost
        kwh = joules / JOULE_PER_KWH
        gpu = ", GPU included" if "GPU" in cost.method else ""
        method = f"metered ({self.name}, all that the meter feeds{gpu})"
        return replace(cost, energy_kwh=kwh, energy_low_kwh=kwh, energy_high_kwh=kwh, method=method)

    def _at(self, time: float) -> float:
        place = min(max(bisect.bisect_left(self.seconds, time), 1), len(self.seconds) - 1)
        before, after = self.seconds[place - 1], self.seconds[place]
        part = (time - before) / (after - before)
        return self.watts[place - 1] + part * (self.watts[place] - self.watts[place - 1])


def _reading(path: Path, line: int, time: str | None, watts: str | None) -> tuple[float, float]:
    try:
        found = _seconds((time or "").strip()), float(watts or "")
    except ValueError:
        raise UserError(f"{path}, line {line}: '{time},{watts}' is no time and watts", _FORM) from None
    if not all(map(math.isfinite, found)) or found[1] < 0:
        raise UserError(f"{path}, line {line}: '{time},{watts}' cannot be", _FORM)
    return found


def _seconds(time: str) -> float:
    try:
        return float(time)
    except ValueError:
        moment = datetime.fromisoformat(time)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
