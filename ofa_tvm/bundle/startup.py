"""What a bundle's program takes to start, in processes of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median

from ofa_tvm.bundle.manifest import Startup

STARTS = 5
"""Processes; one alone may wait for others, or find cold files."""
TIMEOUT_S = 60


def measure_startup(runner: Path, library: Path) -> Startup | None:
    """Load a library and run it once by the bundle's program; None where there is none, or it cannot run here."""
    if not runner.exists():
        return None
    try:
        told = [_start(runner, library) for _ in range(STARTS)]
        loads, firsts = ([one[name] for one in told] for name in ("load_ms", "first_ms"))
        peaks = [one["peak_memory_bytes"] for one in told]
        return Startup(
            load_ms=median(loads),
            first_ms=median(firsts),
            peak_memory_bytes=None if None in peaks else int(median(peaks)),
            starts=STARTS,
            load_range_ms=(min(loads), max(loads)),
            first_range_ms=(min(firsts), max(firsts)),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _start(runner: Path, library: Path) -> dict[str, float]:
    command = [str(runner), str(library), "--benchmark", "--windows", "1", "--window-ms", "50", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    told: dict[str, float] = json.loads(done.stdout)["benchmark"]
    return told
