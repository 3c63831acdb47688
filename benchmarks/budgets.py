"""Whether budgets are held: random ones are searched for, and each pick's own runner says what it takes.

``--logs`` names a folder of logs that came from another host, say a copy of the ones that ship. ``--load KIND`` makes
the machine busy while it searches, in bursts; what the runners say is measured on a quiet machine. ``--larger`` also
compares with what a search of ten times the size picks. Run it while nothing else does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bursts import KINDS, bursts
from store import keep

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.spaces import get_space
from ofa_tvm.timing.window import Timing
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

SPACE = get_space("mbv3-cifar")
LARGER = ("--evaluations", "200000", "--finalists", "20")
TOLERANCE = 0.02
"""What a runner may differ from what was told, where the windows did not spread more."""


def search(budgets: list[float], target: str, out: Path, logs: Path, *options: str) -> dict[str, Any]:
    """What the command writes, with the seconds that it took and its exit code."""
    limits = [text for budget in budgets for text in ("--max-latency-ms", f"{budget:.4g}")]
    command = [sys.executable, "-m", "ofa_tvm.search", "--target", target, *limits, "--out", str(out)]
    start = time.monotonic()
    code = subprocess.run([*command, "--logs", str(logs), *options], stdout=subprocess.PIPE, check=False).returncode
    if code not in (0, 3):
        raise SystemExit(f"the search ended with {code}")
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return {**result, "seconds": time.monotonic() - start, "code": code}


def random_budgets(target: str, logs: Path, count: int, seed: int) -> list[float]:
    """Between the fastest subnet's latency and the largest's, evenly in their logarithm."""
    spec = load_target(target)
    model = LatencyBench(TunedSpace(SPACE, spec, TuningLog(spec, logs)), device=None).fit()
    ends = model.mean_ms(SPACE.genomes([model.fastest(), SPACE.largest])) * (1.1, 1.0)
    share = np.sort(np.random.default_rng(seed).random(count))
    return [float(f"{ends[0] * (ends[1] / ends[0]) ** one:.4g}") for one in share]


def told(pick: dict[str, Any]) -> Timing:
    """What the search measured."""
    return Timing.model_validate(pick["timing"])


def runner_ms(searched: Path, number: int, logs: Path, folder: Path) -> dict[str, Any]:
    """What a pick's own runner says."""
    bundle = folder / str(number)
    options = ["--from", str(searched), "--pick", str(number), "--out", str(bundle), "--logs", str(logs)]
    command = [sys.executable, "-m", "ofa_tvm.deploy", *options, "--check-images", "0"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    done = subprocess.run([bundle / "run", "--benchmark", "--json"], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["benchmark"]
    return found


def row(pick: dict[str, Any], runner: dict[str, Any]) -> dict[str, Any]:
    """One budget: what was told, what the runner says, and whether that agrees."""
    timing = told(pick)
    low, high = timing.spread_ms()
    apart = runner["p50_ms"] / timing.told_ms() - 1
    allowed = max(TOLERANCE, (high - low) / timing.told_ms())
    return {
        **{key: pick[key] for key in ("budget_ms", "subnet", "predicted_ms", "measured_ms", "held", "validation_top1")},
        "spread_ms": [low, high],
        "windows": len(timing.windows),
        "left_out": sum(one.left_out for one in timing.windows),
        "calibration_ms": timing.calibration_ms,
        "runner_p50_ms": runner["p50_ms"],
        "runner_calibration_ms": runner["calibration_ms"],
        "apart": apart,
        "agrees": abs(apart) <= allowed,
        "broken": pick["held"] is True and runner["p50_ms"] > pick["budget_ms"],
    }


def best_within(budget_ms: float, target: str, logs: Path) -> float:
    """Accuracy on validation images of what a search of ten times the size picks."""
    larger = search([budget_ms], target, Path("runs/benchmark-budgets-larger"), logs, *LARGER)
    return float(larger["picks"][0]["validation_top1"])


def regret(rows: list[dict[str, Any]], target: str, logs: Path) -> dict[str, Any]:
    """What is lost to a search of ten times the size."""
    started = time.monotonic()
    for one in rows:
        one["regret"] = best_within(one["budget_ms"], target, logs) - one["validation_top1"]
        print(f"{one['budget_ms']:g} ms: {100 * one['regret']:.2f} points lost", file=sys.stderr)
    lost = [one["regret"] for one in rows]
    seconds = time.monotonic() - started
    print(f"regret: mean {100 * statistics.fmean(lost):.2f} points, most {100 * max(lost):.2f}, {seconds:.0f} s")
    return {"larger_seconds": seconds, "mean_regret": statistics.fmean(lost), "most": max(lost)}


def summary(rows: list[dict[str, Any]], searched: list[dict[str, Any]]) -> dict[str, Any]:
    """How many agree, what searches took, and all picks."""
    seconds = [one["seconds"] for one in searched]
    return {
        "agree": sum(one["agrees"] for one in rows),
        "broken": sum(one["broken"] for one in rows),
        "unsure": sum(one["held"] is None for one in rows),
        "infeasible": [budget for one in searched for budget in one["infeasible"]],
        "seconds": {"median": statistics.median(seconds), "most": max(seconds), "all": seconds},
        "apart": sorted(one["apart"] for one in rows),
        "picks": rows,
    }


def main() -> None:
    """Search, ask the runners, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="x86")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the budgets")
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--load", choices=KINDS)
    parser.add_argument("--together", action="store_true", help="one search for all budgets, instead of one each")
    parser.add_argument("--larger", action="store_true")
    options = parser.parse_args()
    budgets = random_budgets(options.target, options.logs, options.budgets, options.seed)
    rows: list[dict[str, Any]] = []
    searched: list[dict[str, Any]] = []
    for group in [budgets] if options.together else [[budget] for budget in budgets]:
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "search"
            with bursts(options.load):
                found = search(group, options.target, out, options.logs)
            searched.append(found)
            for pick in found["picks"]:
                runner = runner_ms(out, pick["number"], options.logs, Path(name))
                rows.append(row(pick, runner))
                one = rows[-1]
                print(
                    f"budget {one['budget_ms']:.4g}: told {one['measured_ms']:.4f} "
                    f"({one['spread_ms'][0]:.4f}-{one['spread_ms'][1]:.4f}), held {one['held']}, runner "
                    f"{one['runner_p50_ms']:.4f} ({one['apart']:+.1%}), {found['seconds']:.0f} s",
                    flush=True,
                )
        result = summary(rows, searched)
        keep(f"budgets-{options.target}-{options.load or 'quiet'}-{options.seed}", result)  # so far
    seconds = result["seconds"]
    print(
        f"{result['agree']} of {len(rows)} runners agree, {result['broken']} held budgets are broken, "
        f"{result['unsure']} unsure, {len(result['infeasible'])} refused; a search takes "
        f"{seconds['median']:.0f} s (most {seconds['most']:.0f})"
    )
    if options.larger:
        larger = regret(rows, options.target, options.logs)
        keep(f"budgets-{options.target}-{options.load or 'quiet'}-{options.seed}", result | larger)


if __name__ == "__main__":
    main()
