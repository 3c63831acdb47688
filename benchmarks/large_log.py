"""What opening a large tuning log takes: ``python benchmarks/large_log.py [--trials 1000000] [--records 10000]``.

Writes a log as years of tuning on a farm would leave it (made-up times; ``mbv3`` at its 25 resolutions and kernels of
other spaces), then opens it as each command does, every time in a fresh process. Prints CPU seconds, and MB besides
those of the imports, for the first opening by ``tune`` and for those after it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import latency_table
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.spaces import get_space
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

TARGET, SPACE, OTHERS = "x86", "mbv3", ("proxyless", "mbv3-cifar", "efficientnet-lite")
KERNELS = 2130
BATCH = 8
WINDOWS = 5


def write_log(folder: Path, trials: int, records: int) -> None:
    """A log with so many trials and latency records."""
    log = TuningLog(load_target(TARGET), folder)
    with log.exclusive():
        log.settle_reference(0.05)
    keys = [key for name in (SPACE, *OTHERS) for key in fused_kernels(get_space(name), get_space(name).resolutions)]
    keys = list(dict.fromkeys(keys))[:KERNELS]
    rng = np.random.default_rng(0)
    with (log.folder / "kernels.jsonl").open("w") as kernels, (log.folder / "trials.jsonl").open("w") as ledger:
        for start in range(0, trials, BATCH):
            key = keys[start // BATCH % len(keys)]
            state, lines = batch(key, start, min(BATCH, trials - start), rng)
            kernels.write(json.dumps(state) + "\n")
            ledger.writelines(json.dumps(line) + "\n" for line in lines)
    tuned = TunedSpace(get_space(SPACE), load_target(TARGET), TuningLog(load_target(TARGET), folder))
    with (log.folder / "latency.jsonl").open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in latencies(tuned, records, rng))


def batch(
    key: str, start: int, count: int, rng: np.random.Generator
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The line of a kernel after a batch, and those of its trials."""
    lines: list[dict[str, object]] = [
        {
            "digest": rng.bytes(12).hex(),
            "kernel": key,
            "source": "template",
            "status": "ok",
            "time_ms": float(rng.uniform(0.1, 0.2)),
            "is_checked": bool(number % 4 == 0),
            "error": "",
        }
        for number in range(count)
    ]
    tile = {"template": "pointwise", "parameters": {"pixels": start % 14 + 1, "channels": 16, "outer": "pixels"}}
    state = {
        "kernel": key,
        "best_ms": 0.1 + 1 / (start + 10),
        "default_ms": 0.2,
        "trials": start // KERNELS + count,
        "failures": 0,
        "since_best": 3,
        "schedule": tile,
        "source": "template",
    }
    return state, lines


def latencies(tuned: TunedSpace, count: int, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Records of random subnets, all with the schedules of today."""
    for config in tuned.space.sample_configs(rng, count):
        times = rng.uniform(10, 11, WINDOWS).tolist()
        yield {
            "space": SPACE,
            "subnet": config.key,
            "status": "ok",
            "times_ms": times,
            "reference_ms": [8.0] * WINDOWS,
            "schedules": tuned.schedules(config),
            "provenance": "measured",
            "measured_at": "2026-11-28T00:00:00+00:00",
            "error": "",
            "classes": None,
            "figures": [[ms, ms + 0.1, ms + 0.2, ms, ms + 0.1, ms + 0.2, 20.0, 0.0, 1.0, 0.05] for ms in times],
            "host": "",
            "busy_cores": 0,
        }


def tune(tuned: TunedSpace) -> None:
    """What tuning needs: states, and what was tried."""
    with tuned.log.exclusive():
        assert tuned.log.tried
        tuned.log.donors()


def predict(tuned: TunedSpace) -> None:
    """What a prediction needs: the table of kernel times."""
    latency_table(tuned)


def search(tuned: TunedSpace) -> None:
    """What a search needs: the table, and what is known of subnets."""
    LatencyBench(tuned, None)


def deploy(tuned: TunedSpace) -> None:
    """What building needs: the winners."""
    assert tuned.log.winners


COMMANDS: dict[str, Callable[[TunedSpace], None]] = {
    "tune": tune,
    "tune again": tune,
    "predict": predict,
    "search": search,
    "deploy": deploy,
}


def peak_mb() -> float:
    """The most memory that this process ever used; what ``getrusage`` tells includes its parent's."""
    status = Path("/proc/self/status").read_text()
    return float(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def measure(command: str, folder: Path) -> None:
    """Open the log in this process as a command does, and print what it took."""
    target, space = load_target(TARGET), get_space(SPACE)
    fused_kernels(space, space.resolutions)
    before = peak_mb()
    start = time.process_time()
    log = TuningLog(target, folder)
    opened_s = time.process_time() - start
    COMMANDS[command](TunedSpace(space, target, log))
    whole_s = time.process_time() - start
    after = peak_mb()
    print(f"{command:<12} {opened_s:6.2f} {whole_s:6.2f} {after - before:8.0f} {after:8.0f}", flush=True)


def main() -> None:
    """Write a log and open it in all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the log here; one that is there is opened as it is")
    parser.add_argument("--only", choices=COMMANDS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        measure(chosen.only, chosen.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        if not list(folder.glob("*/*/manifest.json")):
            write_log(folder, chosen.trials, chosen.records)
        for path in sorted(folder.glob("*/*/*.jsonl")):
            print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB")
        print("command      log, s whole, s  more, MB  peak, MB", flush=True)
        for command in COMMANDS:
            arguments = ["--only", command, "--folder", str(folder)]
            subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
