"""Whether budgets are held, and what is given away: ``python benchmarks/budgets.py [--budgets 20] [--larger]``.

Random latency budgets for the shipped supernet, one search, and every pick measured again by a fresh process.
With ``--larger`` the same budgets once more with ten times the candidates and finalists: what the small search lost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from store import keep

from ofa_tvm.devices.local.device import LocalDevice
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.tuner.log import TuningLog

SPACE = get_space("mbv3-cifar")
VERIFICATIONS = 3
LARGER = ("--evaluations", "200000", "--finalists", "40", "--seed", "1")


def search(budgets: list[float], target: str, out: Path, *options: str) -> dict[str, Any]:
    """What the command prints, with the seconds that it took."""
    limits = [text for budget in budgets for text in ("--max-latency-ms", f"{budget:.4g}")]
    command = [sys.executable, "-m", "ofa_tvm.search", "--target", target, *limits, "--out", str(out), "--json"]
    start = time.monotonic()
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {**result, "seconds": time.monotonic() - start}


def random_budgets(target: str, count: int) -> list[float]:
    """Between the fastest subnet's latency and the largest's, evenly in their logarithm."""
    spec = load_target(target)
    model = LatencyBench(SPACE, spec, TuningLog(spec), device=None).fit()
    ends = model.mean_ms(SPACE.genomes([model.fastest(), SPACE.largest])) * (1.1, 1.0)
    share = np.sort(np.random.default_rng(0).random(count))
    return [float(f"{ends[0] * (ends[1] / ends[0]) ** one:.4g}") for one in share]


def verify(target: str, picks: list[dict[str, Any]]) -> list[float]:
    """Latency of each pick at the machine's usual speed, measured again."""
    spec = load_target(target)
    log = TuningLog(spec)
    with LocalDevice(spec) as device:
        device.start()
        bench = LatencyBench(SPACE, spec, log, device)
        ratios = [[_ratio(device, pick["subnet"], log) for _ in range(VERIFICATIONS)] for pick in picks]
    return [statistics.fmean(found) * bench.reference_ms for found in ratios]


def best_within(budget_ms: float, target: str) -> float:
    """Accuracy on validation images of what a search of ten times the size picks."""
    larger = search([budget_ms], target, Path("runs/benchmark-budgets-larger"), *LARGER)
    return float(larger["picks"][0]["validation_top1"])


def _ratio(device: LocalDevice, subnet: str, log: TuningLog) -> float:
    answer = device.network(SPACE.name, SPACE.classes, SubnetConfig.parse(subnet).key, log.folder)
    pairs = zip(answer["times_ms"], answer["reference_ms"], strict=True)
    return float(statistics.median(own / other for own, other in pairs))


def main() -> None:
    """Search, verify, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="x86")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--larger", action="store_true")
    options = parser.parse_args()
    budgets = random_budgets(options.target, options.budgets)
    found = search(budgets, options.target, Path("runs/benchmark-budgets"))
    verified = verify(options.target, found["picks"])
    rows = [
        {"budget_ms": pick["budget_ms"], "measured_ms": pick["measured_ms"], "verified_ms": latency_ms}
        | {key: pick[key] for key in ("subnet", "predicted_ms", "predicted_top1", "validation_top1", "test_top1")}
        for pick, latency_ms in zip(found["picks"], verified, strict=True)
    ]
    broken = sum(row["verified_ms"] > row["budget_ms"] for row in rows)
    result: dict[str, Any] = {"seconds": found["seconds"], "broken": broken, "infeasible": found["infeasible"]}
    print(f"{broken} of {len(rows)} budgets broken, {len(found['infeasible'])} refused, {found['seconds']:.0f} s")
    if options.larger:
        started = time.monotonic()
        for row in rows:
            row["regret"] = best_within(row["budget_ms"], options.target) - row["validation_top1"]
            print(f"{row['budget_ms']:g} ms: {100 * row['regret']:.2f} points lost", file=sys.stderr)
        lost = [row["regret"] for row in rows]
        seconds = time.monotonic() - started
        result |= {"larger_seconds": seconds, "mean_regret": statistics.fmean(lost), "most": max(lost)}
        print(f"regret: mean {100 * statistics.fmean(lost):.2f} points, most {100 * max(lost):.2f}, {seconds:.0f} s")
    keep(f"budgets-{options.target}", result | {"picks": rows})


if __name__ == "__main__":
    main()
