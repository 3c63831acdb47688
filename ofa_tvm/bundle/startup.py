"""What a bundle's program takes to start, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ofa_tvm.bundle.manifest import Startup

TIMEOUT_S = 60


def measure_startup(runner: Path, library: Path) -> Startup | None:
    """Load a library and run it once by the bundle's program; None where there is none, or it cannot run here."""
    if not runner.exists():
        return None
    try:
        command = [str(runner), str(library), "--benchmark", "--windows", "1", "--window-ms", "50", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        told = json.loads(done.stdout)["benchmark"]
        return Startup(load_ms=told["load_ms"], first_ms=told["first_ms"], peak_memory_bytes=told["peak_memory_bytes"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
