"""Where results lie: one dated JSON file each in ``results/``, its name ending in LLVM's name of this machine's CPU."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ofa_tvm.hardware.machine import native_mcpu

RESULTS = Path(__file__).parent / "results"


def keep(name: str, result: dict[str, Any]) -> None:
    """Store a result of today on this machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}-{native_mcpu()}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}", file=sys.stderr)


def newest(name: str, cpu: str) -> Path:
    """The newest result of that name on a CPU."""
    return max(RESULTS.glob(f"????-??-??-{name}-{cpu}.json"))
