"""What a search gains: its share, and the compiler's. ``python benchmarks/promise.py --from runs/search-...``.

Give a search with many budgets, say twenty-four between the smallest and the largest subnet's latency (``--budgets 24``
prints them). Rivals are (a) the largest subnet at each resolution, (b) 30 subnets with one kernel, expand ratio and
depth everywhere, and (c) those of 100 random subnets that none of the others beats. Against each stands the fastest
pick whose expected accuracy is at most ``--points`` below the rival's on held-out images. A pick was the best of many
on those same images, its rivals of few or none, so its expected accuracy counts: what was validated, drawn towards what
was predicted (``expected_top1`` of the search). What is told of both is counted on test images, which chose nothing,
and both run in our library, by the protocol of every measurement. Then the largest
subnet and the pick against it run in the engines that a user would take: what the compiler gains.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from moocore import is_nondominated
from store import keep

from ofa_tvm.accuracy.uncertainty import Answers, difference
from ofa_tvm.devices import open_device
from ofa_tvm.engines import ENGINES
from ofa_tvm.engines.base import Call
from ofa_tvm.engines.comparison import WARMUP_RUNS, time_calls
from ofa_tvm.engines.own_library import OfaTvm
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import Weights, random_weights
from ofa_tvm.hardware.machine import cpu_name
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, Logits, supernet_images
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.supernet.held_out import open_held_out
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.support.console import Task, log
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.shipped import shipped_supernet
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.tuned_space import TunedSpace

OTHERS = ("ort", "openvino")
UNIFORM, RANDOM = 30, 100
WITHIN_95 = 1.96
"""Standard errors of a 95 % interval."""


class Known:
    """Right answers of subnets: on held-out images, and on test images once they are asked for.

    Args:
        held_out: from a subnet to its answers on held-out images.
        test: likewise on test images.
    """

    def __init__(self, held_out: Callable[[SubnetConfig], Answers], test: Callable[[SubnetConfig], Answers]) -> None:
        self.held_out, self.test = lru_cache(maxsize=None)(held_out), lru_cache(maxsize=None)(test)


def uniform(space: SearchSpace, rng: np.random.Generator) -> list[SubnetConfig]:
    """Subnets that choose the same everywhere."""
    choices = list(product(space.resolutions, space.depth_choices, space.kernel_choices, space.expand_choices))
    chosen = [choices[row] for row in sorted(rng.choice(len(choices), min(UNIFORM, len(choices)), replace=False))]
    return [
        SubnetConfig(resolution, (((kernel, expand),) * depth,) * space.stages)
        for resolution, depth, kernel, expand in chosen
    ]


def not_beaten(configs: list[SubnetConfig], known: Known, ms: dict[str, float]) -> list[SubnetConfig]:
    """Those of the subnets that none of the others beats in accuracy on held-out images and speed together."""
    scores = [[-known.held_out(config).mean(), ms[config.key]] for config in configs]
    return [configs[row] for row in np.flatnonzero(is_nondominated(np.asarray(scores)))]


def against(
    rival: SubnetConfig, picks: dict[SubnetConfig, float], known: Known, ms: dict[str, float], points: float
) -> dict[str, Any]:
    """The fastest pick (by expected accuracy) that is accurate enough; what test images and timing say of both."""
    least = known.held_out(rival).mean() - points / 100
    close = [pick for pick, expected in picks.items() if expected >= least]
    if not close:
        return {"rival": rival.key, "rival_ms": ms[rival.key], "pick": None, "as_fast": 0.0}
    pick = min(close, key=lambda one: ms[one.key])
    apart = difference(known.test(pick), known.test(rival))
    return {
        "rival": rival.key,
        "rival_ms": ms[rival.key],
        "rival_test_top1": float(known.test(rival).mean()),
        "pick": pick.key,
        "pick_ms": ms[pick.key],
        "as_fast": ms[rival.key] / ms[pick.key],
        "points": 100 * apart.top1,
        "points_95": [100 * (apart.top1 + side * WITHIN_95 * apart.error) for side in (-1, 1)],
    }


def compilers_share(
    space: SearchSpace, subnets: dict[str, SubnetConfig], threads: int, seconds: float
) -> dict[str, Any]:
    """The same networks in the engines that a user would take; outputs are compared first."""
    engines = {"ours": OfaTvm(), **{name: ENGINES[name]() for name in OTHERS}}
    calls: dict[str, Call] = {}
    for label, config in subnets.items():
        network = space.network(config)
        weights = random_weights(network)
        shape = (1, network.resolution, network.resolution, network.in_channels)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        models = {name: engine.prepare(network, weights, threads) for name, engine in engines.items()}
        for name in ("ours", "openvino"):
            check_parity(f"{name}, {label}", relative_error(models[name](images), models["ort"](images)), "ort")
        calls |= {f"{name}, {label}": model.bind(images) for name, model in models.items()}
    for call in calls.values():
        for _ in range(WARMUP_RUNS):
            call()
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"versions": {name: engine.version for name, engine in engines.items()}}
    for protocol, timings in time_calls(calls, seconds, rng).items():
        ours = timings["ours, pick"].median_ms
        ratios = {name: timing.median_ms / ours for name, timing in timings.items()}
        found[protocol] = {name: timing.record() for name, timing in timings.items()} | {"as fast as": ratios}
        print(f"{protocol}: our pick takes {ours:.3f} ms; as fast as", {k: round(v, 2) for k, v in ratios.items()})
    return found


def main() -> None:
    """Evaluate, time, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, help="folder of a search")
    parser.add_argument("--supernet", type=Path, default=shipped_supernet())
    parser.add_argument("--target", default="x86")
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--points", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="to time the engines")
    parser.add_argument("--budgets", type=int, help="print so many budgets to search with, and end")
    options = parser.parse_args()
    path = checkpoint_path(options.supernet)
    supernet, facts = load_supernet(path)
    space, spec = supernet.space, load_target(options.target, options.threads)
    tuning_log = TuningLog(spec, options.logs)
    if options.budgets:
        model = LatencyBench(TunedSpace(space, spec, tuning_log), device=None).fit()
        ends = model.mean_ms(space.genomes([model.fastest(), space.largest]))
        print(*(f"--max-latency-ms {ms:.4g}" for ms in np.geomspace(1.1 * ends[0], ends[1], options.budgets)))
        return
    if options.folder is None:
        parser.error("--from is needed")

    result = load_search_result(options.folder)
    picks = {SubnetConfig.parse(one.subnet): one.expected_top1 for one in result.picks if one.expected_top1 is not None}
    if not picks:
        sys.exit(f"{options.folder} says no expected accuracies of its picks: search again")
    rng = np.random.default_rng(0)
    largest = [SubnetConfig(resolution, space.largest.stages) for resolution in space.resolutions]
    groups = {"largest": largest, "uniform": uniform(space, rng), "random": space.sample_configs(rng, RANDOM)}
    rivals = [one for group in groups.values() for one in group]
    everything = list(dict.fromkeys([*picks, *rivals]))

    use_host_threads(None)
    dataset = supernet_images(None, facts, path, log)
    copies = process_cores()

    def library(network: NetworkSpec, weights: Weights) -> Logits:
        return Classifier(network, weights, spec, tuning_log.winners, copies)

    held_out = open_held_out(path.parent, supernet, facts, dataset, library)
    test = Evaluator(dataset, dataset.test, library=library)
    known = Known(held_out.answers, partial(test.answers, supernet))
    with Task("evaluating rivals", len(rivals)) as task:
        for config in rivals:
            known.held_out(config)
            task.advance()
    with tuning_log.exclusive(), open_device(spec) as device:
        bench = LatencyBench(TunedSpace(space, spec, tuning_log), device)
        measured = bench.measure(everything)
    ms = {config.key: one for config, one in zip(everything, measured, strict=True) if one is not None}
    if len(ms) < len(everything):
        sys.exit(f"{len(everything) - len(ms)} subnets could not be measured")
    groups["random"] = not_beaten(groups["random"], known, ms)

    found = {name: [against(one, picks, known, ms, options.points) for one in group] for name, group in groups.items()}
    for name, rows in found.items():
        ratios = [row["as_fast"] for row in rows]
        good = sum(ratio >= 1.5 for ratio in ratios)
        points = [row["points"] for row in rows if row["pick"]]
        print(
            f"{name}: {good} of {len(rows)} rivals are beaten 1.5x; median {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}); on test images {statistics.fmean(points):+.2f} points on average"
        )
        for row in rows:
            if row["pick"]:
                low, high = row["points_95"]
                print(
                    f"  {row['rival']}: {row['rival_ms']:.3f} ms, {row['rival_test_top1']:.2%}; "
                    f"pick {row['pick_ms']:.3f} ms, {row['as_fast']:.2f}x, {row['points']:+.2f} points "
                    f"({low:+.2f} to {high:+.2f})"
                )
    report: dict[str, Any] = {"machine": cpu_name(), "threads": options.threads, "space": space.name, "search": found}
    beside = found["largest"][-1]["pick"]
    if beside:
        subnets = {"pick": SubnetConfig.parse(beside), "largest": space.largest}
        report["compiler"] = compilers_share(space, subnets, options.threads, options.seconds)
    keep(f"promise-{space.name}-{options.threads}t", report)


if __name__ == "__main__":
    main()
