"""Recipes of a training at equal cost, and the share of each ingredient: leave one out, or put one in.

Every run gets the same seconds (``--seconds``), of CPU time or of a GPU: how many steps that is, a few steps say first.
The largest, the middle and the smallest subnet and 20 random ones are judged on the held-out images; the test images
have no say. Runs are kept in ``--out`` and not made twice.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from store import keep

from ofa_tvm.data import load_dataset
from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces import SearchSpace, get_space
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.supernet.plan import Plan, Recipe, make_plan
from ofa_tvm.supernet.training import Trainer
from ofa_tvm.supernet.training_cost import expected_cost
from ofa_tvm.support.console import log
from ofa_tvm.support.ledger import total
from ofa_tvm.training.defaults import GPU_BATCH, GPU_RATE_SCALE, MAX_WINDOW, MIN_WINDOW, WINDOWS

Change = Callable[[Plan], Plan]
TRIAL_STEPS = 10_000


def opening(closed: float, opened: float) -> Change:
    """Another pace at which choices open."""
    return lambda plan: replace(plan, phases=(replace(plan.phases[0], closed=closed, opened=opened),))


def value(**values: Any) -> Change:
    """Other values of the plan."""
    return lambda plan: replace(plan, **values)


RUNS: dict[str, tuple[Recipe, Change]] = {
    "progressive": ("progressive", value()),
    "single stage": ("single-stage", value()),
    "all open from the start": ("single-stage", opening(0.0, 0.0)),
    "opening late": ("single-stage", opening(0.3, 0.6)),
    "one resolution a step": ("single-stage", value(one_resolution=True)),
    "no label smoothing": ("single-stage", value(label_smoothing=0.0)),
    "half of the batches mixed": ("single-stage", value(mixed=0.5)),
    "two random subnets": ("single-stage", value(random_subnets=2)),
    "no random subnet": ("single-stage", value(random_subnets=0)),
    "half the batch": ("single-stage", lambda plan: value(batch=plan.batch // 2, rate_scale=plan.rate_scale / 2)(plan)),
}


def plan_of(name: str, seed: int, steps: int, device: torch.device) -> Plan:
    """The plan of a run, with the values that ``train`` takes on the device."""
    recipe, change = RUNS[name]
    values: dict[str, Any] = {}
    if device.type == "cuda":
        window = min(MAX_WINDOW, max(MIN_WINDOW, steps // WINDOWS))
        values = {"batch": GPU_BATCH, "rate_scale": GPU_RATE_SCALE, "precision": "bfloat16", "window": window}
    return change(make_plan(recipe, steps, seed=seed, **values))


def steps_of(
    names: list[str], space: SearchSpace, dataset: Dataset, seconds: float, out: Path, device: torch.device
) -> dict[str, int]:
    """How many steps of each run so many seconds are; measured once, before anything else runs."""
    path = out / f"steps-{seconds:g}.json"
    known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        if name not in known:
            with tempfile.TemporaryDirectory() as nowhere:
                plan = plan_of(name, 0, TRIAL_STEPS, device)
                trial = expected_cost(Trainer(space, dataset, plan, Path(nowhere), device))
            spent = trial.wall_s if device.type == "cuda" else trial.cpu_s
            known[name] = round(seconds / (spent / TRIAL_STEPS))
            path.write_text(json.dumps(known))
    return known


def run(
    name: str, seed: int, space: SearchSpace, dataset: Dataset, steps: int, folder: Path, device: torch.device
) -> dict[str, Any]:
    """Train, or go on with it; accuracies and cost."""
    trainer = Trainer(space, dataset, plan_of(name, seed, steps, device), folder, device)
    trainer.run()
    configs = {"largest": [space.largest], "middle": [space.middle], "smallest": [space.smallest]}
    configs["random"] = space.sample_configs(np.random.default_rng(7), 20)
    evaluator = Evaluator(dataset, dataset.validation, device=device)
    found: dict[str, Any] = {"run": name, "seed": seed, "steps": steps}
    for which, supernet in (("top1", trainer.result), ("top1_of_last_weights", trainer.supernet)):
        supernet.eval()
        found[which] = {
            one: float(np.mean([evaluator.top1(supernet, config) for config in some])) for one, some in configs.items()
        }
        configs.pop("random", None)
    found["cost"] = total("train", trainer.ledger.costs()).record()
    (folder / "found.json").write_text(json.dumps(found))
    return found


def main() -> None:
    """Train and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--space", default="mbv3-cifar")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=1800, help="of a run: CPU time, or of a GPU")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    options = parser.parse_args()
    space, dataset, device = get_space(options.space), load_dataset(options.data, log), torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    use_host_threads(None)
    steps = steps_of(options.runs, space, dataset, options.seconds, options.out, device)
    results = []
    for seed in range(options.seeds):
        for name in options.runs:
            folder = options.out / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            found = folder / "found.json"
            made = found.exists()
            results.append(
                json.loads(found.read_text()) if made else run(name, seed, space, dataset, steps[name], folder, device)
            )
            top1 = ", ".join(f"{one} {value:.2%}" for one, value in results[-1]["top1"].items())
            cost = results[-1]["cost"]
            print(
                f"{name}, seed {seed}: {top1}; {results[-1]['steps']} steps, {cost['wall_s']:.0f} s, "
                f"{cost['cpu_s']:.0f} CPU s",
                flush=True,
            )
    for which in ("top1", "top1_of_last_weights"):
        for name in options.runs:
            mine = [one[which] for one in results if one["run"] == name]
            means = ", ".join(f"{one} {np.mean([each[one] for each in mine]):.2%}" for one in mine[0])
            print(f"{which}, {name}: {means}")
    setting = {"space": options.space, "device": options.device, "seconds": options.seconds}
    keep("recipes", {**setting, "results": results})


if __name__ == "__main__":
    main()
