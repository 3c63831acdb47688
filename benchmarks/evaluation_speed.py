"""What evaluating a subnet takes on this machine: recalibration, and 5,000 images by torch and by its library.

``python benchmarks/evaluation_speed.py``, with nothing else running; the shipped supernet, its tuned kernels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from store import keep

from ofa_tvm.hardware.machine import cpu_name
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.support.console import log
from ofa_tvm.support.shipped import shipped_supernet
from ofa_tvm.tuner.log import TuningLog


def seconds(work: Callable[[], object]) -> float:
    """What a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Time, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--random", type=int, default=3, help="random subnets beside the largest and the smallest")
    options = parser.parse_args()
    threads = use_host_threads(None)
    supernet, facts = load_supernet(shipped_supernet())
    dataset = supernet_images(None, facts, shipped_supernet(), log)
    spec = load_target("x86")
    winners = TuningLog(spec).winners
    by_torch = Evaluator(dataset, dataset.validation)
    by_library = Evaluator(
        dataset,
        dataset.validation,
        library=lambda network, weights: Classifier(network, weights, spec, winners, threads),
    )
    space, rows = supernet.space, []
    for config in [space.largest, space.smallest, *space.sample_configs(np.random.default_rng(0), options.random)]:
        subnet = by_torch.subnet(supernet, config)
        apart = float((by_torch.predictions(subnet) != by_library.predictions(subnet)).float().mean())
        times: dict[str, list[float]] = {"recalibration": [], "torch": [], "library": []}
        for _ in range(options.rounds):
            times["recalibration"].append(seconds(partial(by_torch.subnet, supernet, config)))
            times["torch"].append(seconds(partial(by_torch.predictions, subnet)))
            times["library"].append(seconds(partial(by_library.predictions, subnet)))
        middle = {name: median(found) for name, found in times.items()}
        rows.append({"subnet": config.key, "apart": apart, "seconds": times, "median": middle})
        print(
            f"{config.key}: recalibration {middle['recalibration']:.2f} s, {by_torch.count} images by torch "
            f"{middle['torch']:.2f} s, by the library {middle['library']:.2f} s; {apart:.2%} decided otherwise"
        )
    keep("evaluation_speed", {"machine": cpu_name(), "threads": threads, "rows": rows})


if __name__ == "__main__":
    main()
