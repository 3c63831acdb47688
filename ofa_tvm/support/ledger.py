"""The ledger: what each phase cost in wall time, CPU time and energy, and how the energy was obtained.

Energy is metered where the processor's counters (RAPL) can be read. Elsewhere it is estimated from CPU time and
the power of one busy core, with bounds: server processors draw 3 to 12 W a core (package power at full load over
cores, vendor specifications 2017-2024), 6 W in the middle. A GPU's energy is its driver's own count (NVML, from Volta
on). Metered and estimated values are never added up without saying so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from ofa_tvm.support.amounts import Amount
from ofa_tvm.support.files import Record, append_jsonl
from ofa_tvm.support.nvml import gpu_millijoules
from ofa_tvm.support.typed import Finite, NotNegative, read_lines

JOULE_PER_KWH = 3.6e6
CORE_WATTS = (3.0, 6.0, 12.0)
_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one phase. ``energy_low_kwh`` and ``energy_high_kwh`` bound an estimate; equal when metered."""

    phase: str
    wall_s: NotNegative
    cpu_s: Finite
    energy_kwh: Finite
    energy_low_kwh: Finite
    energy_high_kwh: Finite
    method: str
    ended_at: str = ""
    """UTC, ISO 8601; empty in ledgers of older versions, and of sums."""

    @property
    def work(self) -> tuple[float | str, ...]:
        """What was done, whatever its phase is called where it was copied to."""
        return self.wall_s, self.cpu_s, self.energy_kwh, self.method, self.ended_at

    def record(self) -> Record:
        """The cost as a JSON object."""
        return asdict(self)

    @property
    def watt_hours(self) -> Amount:
        """The energy as an amount, with the kinds that its method names."""
        kinds = tuple(kind for kind in ("metered", "estimated") if kind in self.method)
        return Amount(1e3 * self.energy_kwh, 1e3 * self.energy_low_kwh, 1e3 * self.energy_high_kwh, "Wh", kinds)

    @property
    def energy(self) -> str:
        """The energy with its bounds and method, for a person."""
        return f"{self.watt_hours.text}, {self.method}"

    def __str__(self) -> str:
        return f"{self.phase}: {self.wall_s:.1f} s, {self.cpu_s:.1f} CPU s, {self.energy}"


_COST = TypeAdapter(Cost)


class Meter:
    """Runs from construction; ``read`` gives the cost so far, of this process and its descendants.

    Args:
        uses_gpu: the work runs on the first visible GPU, whose energy counts too.
    """

    def __init__(self, uses_gpu: bool = False) -> None:
        self._uses_gpu = uses_gpu
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()
        self._joules = _rapl_joules()
        self._gpu_mj = gpu_millijoules() if uses_gpu else None

    def read(self, phase: str) -> Cost:
        """The cost since the meter was made."""
        cost = replace(self._read_cpu(phase), ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"))
        if not self._uses_gpu:
            return cost
        now = gpu_millijoules()
        if now is None or self._gpu_mj is None:
            return replace(cost, method=f"{cost.method}, GPU not counted")
        kwh = 1e-3 * (now - self._gpu_mj) / JOULE_PER_KWH
        return replace(
            cost,
            energy_kwh=cost.energy_kwh + kwh,
            energy_low_kwh=cost.energy_low_kwh + kwh,
            energy_high_kwh=cost.energy_high_kwh + kwh,
            method=f"{cost.method}, GPU metered (NVML, whole GPU)",
        )

    def _read_cpu(self, phase: str) -> Cost:
        wall = time.monotonic() - self._wall
        cpu = _cpu_seconds() - self._cpu
        joules = _rapl_joules()
        if self._joules and joules.keys() == self._joules.keys():
            used = sum(after - self._joules[zone] for zone, after in joules.items())
            if used >= 0:
                kwh = used / JOULE_PER_KWH
                return Cost(phase, wall, cpu, kwh, kwh, kwh, "metered (RAPL, whole package)")
        return estimated(phase, wall, cpu)


def estimated(phase: str, wall_s: float, cpu_s: float) -> Cost:
    """Energy from CPU time and watts a core."""
    low, middle, high = (cpu_s * watts / JOULE_PER_KWH for watts in CORE_WATTS)
    method = f"estimated ({CORE_WATTS[1]:g} W per busy core)"
    return Cost(phase, wall_s, cpu_s, middle, low, high, method)


def other_attempt(phase: str) -> str:
    """The name of a phase of a run in the same folder that did not end, or whose result was replaced."""
    return f"other attempt: {phase}"


def total(phase: str, costs: Iterable[Cost]) -> Cost:
    """Sum of costs; the method says when metered and estimated ones are mixed."""
    costs = list(costs)
    methods = sorted({cost.method for cost in costs})
    return Cost(
        phase,
        sum(cost.wall_s for cost in costs),
        sum(cost.cpu_s for cost in costs),
        sum(cost.energy_kwh for cost in costs),
        sum(cost.energy_low_kwh for cost in costs),
        sum(cost.energy_high_kwh for cost in costs),
        " + ".join(methods) or "nothing measured",
    )


class Ledger:
    """Costs of the phases of one run, appended to ``ledger.jsonl``; with the GPU's energy if they use it."""

    def __init__(self, path: Path, uses_gpu: bool = False) -> None:
        self.path = path
        self._uses_gpu = uses_gpu

    @contextmanager
    def phase(self, name: str) -> Iterator[Meter]:
        """Record the cost of the block, also when it is interrupted."""
        meter = Meter(self._uses_gpu)
        try:
            yield meter
        finally:
            self.add(meter.read(name))

    def add(self, cost: Cost) -> None:
        """Append a cost."""
        append_jsonl(self.path, [cost.record()])

    def costs(self) -> list[Cost]:
        """All costs recorded so far, in order.

        Raises:
            UserError: the file is damaged.
        """
        return read_lines(self.path, "ledger", _COST)


def _cpu_seconds() -> float:
    """CPU time of this process, its ended children and its living descendants."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _rapl_joules() -> dict[str, float]:
    joules = {}
    for zone in sorted(_RAPL.glob("intel-rapl:?")):
        try:
            joules[zone.name] = int((zone / "energy_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return {}
    return joules
