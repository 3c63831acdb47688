"""Whether a benchmark's windows agree, what disturbed them, and what to do about it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import psutil

from ofa_tvm.engines.comparison import Timing
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.files import Record

Verdict = Literal["stable", "fair", "unstable"]
FAIR, UNSTABLE = 0.02, 0.05
"""How far an engine's windows are apart, in the median of all timings, where a result is called so."""
BUSY = 0.1
"""Share of the machine's time in which others worked that is worth a word."""
STOLEN = 0.01
"""Share of this machine's time that its host gave to others, likewise."""
SWITCHES = 1.0
"""Times a second that this process had to leave its processor, likewise."""
_GOVERNORS = "/sys/devices/system/cpu"


@dataclass(frozen=True)
class Stability:
    """How far windows are apart.

    Args:
        verdict: by ``FAIR`` and ``UNSTABLE``.
        apart: of an engine's windows, in the median of all timings, as a fraction.
        most_apart: of any timing.
        busy: share of the machine's time in which other processes worked meanwhile.
        stolen: share in which its host worked for others; 0 where that is not told.
        switches: times a second that this process had to leave its processor.
        governor: of the processors' clock; empty where there is none.
        remedies: what to do; empty where the windows agree.
    """

    verdict: Verdict
    apart: float
    most_apart: float
    busy: float
    stolen: float
    switches: float
    governor: str
    remedies: tuple[str, ...]

    def record(self) -> Record:
        """As a JSON object."""
        return {**asdict(self), "remedies": list(self.remedies)}


class Watch:
    """What else the machine does, from construction to ``judge``."""

    def __init__(self) -> None:
        self._wall, self._machine, self._own = time.monotonic(), psutil.cpu_times(), _own_seconds()
        self._switches = _switches()

    def judge(self, timings: Iterable[Timing], seconds: float) -> Stability:
        """Judge timings that were taken meanwhile; ``seconds`` is what each subnet got."""
        wall, now = max(time.monotonic() - self._wall, 1e-9), psutil.cpu_times()
        cores = psutil.cpu_count() or 1
        idle = sum(getattr(now, part, 0.0) - getattr(self._machine, part, 0.0) for part in ("idle", "iowait"))
        stolen = getattr(now, "steal", 0.0) - getattr(self._machine, "steal", 0.0)
        others = cores * wall - idle - stolen - (_own_seconds() - self._own)
        apart = [timing.apart for timing in timings]
        middle = median(apart)
        verdict: Verdict = "unstable" if middle > UNSTABLE else "fair" if middle > FAIR else "stable"
        found = (max(0.0, others / (cores * wall)), stolen / (cores * wall), (_switches() - self._switches) / wall)
        remedies = () if verdict == "stable" else _remedies(*found, governor(), seconds)
        return Stability(verdict, middle, max(apart), *found, governor(), remedies)


def _remedies(busy: float, stolen: float, switches: float, clock: str, seconds: float) -> tuple[str, ...]:
    found = []
    if busy > BUSY:
        found.append(f"other processes worked {busy:.0%} of the machine's time: end them, or wait")
    if stolen > STOLEN:
        found.append(
            f"the host took {stolen:.0%} of this virtual machine's time: use cores of your own, or another hour"
        )
    if switches > SWITCHES and busy <= BUSY:
        found.append(
            f"others took this processor {switches:.0f} times a second: run it as 'taskset -c {_last_core()} ...'"
        )
    if clock and clock != "performance":
        found.append(f"the clock's governor is {clock}: 'sudo cpupower frequency-set -g performance'")
    return (*found, f"time longer: --seconds {max(4.0, 4 * seconds):g}")


def governor() -> str:
    """The governor of the first processor's clock; empty where there is none."""
    try:
        return Path(_GOVERNORS, "cpu0", "cpufreq", "scaling_governor").read_text().strip()
    except OSError:
        return ""


def machine_facts() -> Record:
    """What a result on this machine depends on, besides the processor's name."""
    return {
        "cores": process_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{os.uname().sysname} {os.uname().release}",
        "governor": governor(),
    }


def _own_seconds() -> float:
    """CPU time of this process and of those that it has waited for, such as compilers."""
    return sum(os.times()[:4])


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _last_core() -> int:
    return max(os.sched_getaffinity(0))
