"""What a search gains in the end: ``python benchmarks/promise.py --from runs/search-... [--points 0.3] [--threads 1]``.

The fastest pick whose accuracy on the test images is within so many points of the largest subnet's, in our library,
against the largest subnet and against itself in the engines that a user would take. Outputs are compared first; all are
timed in one run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from store import keep

from ofa_tvm.engines import ENGINES
from ofa_tvm.engines.base import Call
from ofa_tvm.engines.comparison import PROTOCOLS, WARMUP_RUNS, time_calls
from ofa_tvm.engines.own_library import OfaTvm
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import cpu_name
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.support.shipped import shipped_supernet

OTHERS = ("ort", "openvino")


def main() -> None:
    """Choose the pick and time it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--points", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    result = load_search_result(options.folder)
    space = get_space(result.space)
    largest_top1 = json.loads((shipped_supernet() / "accuracy.json").read_text())["test_top1"]["largest"]
    close = [pick for pick in result.picks if (pick.test_top1 or 0) >= largest_top1 - options.points / 100]
    if not close:
        sys.exit("no pick is as accurate: search with larger budgets")
    pick = min(close, key=lambda pick: pick.measured_ms or np.inf)
    engines = {"ours": OfaTvm(), **{name: ENGINES[name]() for name in OTHERS}}
    calls: dict[str, Call] = {}
    for label, config in (("pick", SubnetConfig.parse(pick.subnet)), ("largest", space.largest)):
        network = space.network(config)
        weights = random_weights(network)
        shape = (1, network.resolution, network.resolution, network.in_channels)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        models = {name: engine.prepare(network, weights, options.threads) for name, engine in engines.items()}
        for name in ("ours", "openvino"):
            check_parity(f"{name}, {label}", relative_error(models[name](images), models["ort"](images)), "ort")
        calls |= {f"{name}, {label}": model.bind(images) for name, model in models.items()}
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    rng = np.random.default_rng(0)
    timings = {
        protocol: time_calls(calls, runs, options.seconds / len(PROTOCOLS), rng) for protocol, runs in PROTOCOLS.items()
    }
    report: dict[str, Any] = {
        "machine": cpu_name(),
        "threads": options.threads,
        "subnet": pick.subnet,
        "test_top1": pick.test_top1,
        "largest_test_top1": largest_top1,
        "versions": {name: engine.version for name, engine in engines.items()},
    }
    for protocol, found in timings.items():
        report[protocol] = {name: timing.record() for name, timing in found.items()}
        ours = found["ours, pick"].median_ms
        ratios = {name: timing.median_ms / ours for name, timing in found.items()}
        report[f"{protocol}, as fast as"] = ratios
        print(f"{protocol}: our pick takes {ours:.3f} ms; as fast as", {k: round(v, 2) for k, v in ratios.items()})
    print(f"{pick.subnet}: {pick.test_top1:.2%} on test images, the largest {largest_top1:.2%}")
    keep(f"promise-{options.threads}t", report)


if __name__ == "__main__":
    main()
