"""Whether a busy machine leads tuning astray: kernels are tuned quietly and under each load, from nothing.

Both winners of a kernel are then timed in turn on the quiet machine. Run it while nothing else does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bursts import KINDS, bursts
from store import keep
from tuning import Timer

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import get_space
from ofa_tvm.tuner.log import TuningLog

SPACE, TARGET = "mbv3-cifar", "x86"
QUIET = "quiet"


def tuned(load: str | None, resolution: int, trials: int, logs: Path) -> tuple[dict[str, dict[str, Any]], float]:
    """The winners, and the seconds that it took."""
    options = ["--space", SPACE, "--target", TARGET, "--resolution", str(resolution), "--trials", str(trials)]
    start = time.monotonic()
    with bursts(load):
        command = [sys.executable, "-m", "ofa_tvm.tune", *options, "--no-transfer", "--logs", str(logs)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return dict(TuningLog(load_target(TARGET), logs).winners), time.monotonic() - start


def main() -> None:
    """Tune, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=24)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--loads", nargs="+", default=[QUIET, "busy1", "busy2", "busy4", "memory1", "memory2"])
    options = parser.parse_args()
    kernels = fused_kernels(get_space(SPACE), (options.resolution,))
    timer = Timer(load_target(TARGET).attributes)
    results = {}
    with tempfile.TemporaryDirectory() as name:
        quiet, seconds = tuned(None, options.resolution, options.trials, Path(name) / "first")
        print(f"quiet: {len(quiet)} kernels, {seconds:.0f} s")
        for load in options.loads:
            kind = None if load == QUIET else load
            assert kind is None or kind in KINDS
            winners, seconds = tuned(kind, options.resolution, options.trials, Path(name) / load)
            ratios = {}
            for key in quiet.keys() & winners.keys() & kernels.keys():
                first, other = timer.in_turn(kernels[key], [quiet[key], winners[key]])
                ratios[key] = other / first
            mean = geometric_mean(ratios.values())
            results[load] = {"seconds": seconds, "geomean": mean, "ratios": ratios}
            print(f"{load}: winners take {mean:.3f}x the quiet ones' time, {len(ratios)} kernels, {seconds:.0f} s")
    keep("tuning-under-load", {"resolution": options.resolution, "trials": options.trials, "loads": results})


if __name__ == "__main__":
    main()
