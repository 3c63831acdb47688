"""Measure the figures of benchmarks/README.md again: ``python benchmarks/run.py [engines] [int8] [loops] [latency]``.

Every part runs the commands that a user would run, keeps what they print as JSON under ``benchmarks/results/``, and
prints the tables. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from store import keep

ENGINES = (("mbv3", 224), ("mbv3", 192), ("mbv3", 160), ("mbv3-cifar", 32))
SUBNETS = "20"


def run(module: str, *arguments: str) -> dict[str, Any]:
    """What a command of the package prints with --json."""
    command = [sys.executable, "-m", f"ofa_tvm.{module}", *arguments, "--json"]
    print("$", " ".join(["python", *command[1:]]), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def engines() -> None:
    """Tuned subnets against untuned ones and other engines."""
    others = "ort,openvino,litert,default"
    for threads in ("1", "2"):
        for space, resolution in ENGINES:
            fixed = ["--space", space, "--resolution", str(resolution), "--seed", "7", "--threads", threads]
            result = run("bench", *fixed, "--subnets", SUBNETS, "--seconds", "3", "--against", others)
            keep(f"engines-{space}-{resolution}-{threads}t", result)
            print(json.dumps(result["geomean_speedup"], indent=1))


def int8() -> None:
    """Tuned int8 subnets against ours in float32 and other engines in both."""
    others = "float32,default,ort,openvino,openvino-as-installed,ort-int8,openvino-int8,litert,litert-int8"
    for threads in ("1", "2"):
        for space, resolution in ENGINES:
            fixed = ["--space", space, "--resolution", str(resolution), "--seed", "7", "--threads", threads]
            result = run(
                "bench", *fixed, "--subnets", SUBNETS, "--seconds", "4", "--dtype", "int8", "--against", others
            )
            keep(f"int8-{space}-{resolution}-{threads}t", result)
            print(json.dumps(result["geomean_speedup"], indent=1))


def loops() -> None:
    """Tuned subnets against torch and TVM's unscheduled loops."""
    for space, resolution in (ENGINES[0], ENGINES[-1]):
        fixed = ["--space", space, "--resolution", str(resolution), "--subnets", "5", "--seed", "7", "--threads", "1"]
        result = run("bench", *fixed, "--against", "torch,loops")
        keep(f"loops-{space}-{resolution}", result)
        print(json.dumps(result["geomean_speedup"], indent=1))


def latency() -> None:
    """Errors of the latency model beside what it has to beat."""
    result = run("tune", "--space", "mbv3-cifar", "--trials", "0", "--samples", "100")
    keep("latency-mbv3-cifar", result)
    print("| model | MAPE | within 5 % | within 10 % | Spearman |\n| --- | --- | --- | --- | --- |")
    for name, score in result["cost_model"]["methods"].items():
        cells = [f"{score[key]:.2%}" for key in ("mape", "within_5pct", "within_10pct")]
        print(f"| {name} | {' | '.join(cells)} | {score['spearman']:.4f} |")


PARTS = {"engines": engines, "int8": int8, "loops": loops, "latency": latency}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
