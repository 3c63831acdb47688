"""What sharing weights costs: subnets of a trained supernet against the same subnets trained alone.

``python benchmarks/alone.py --supernet DIR --out FOLDER``: five subnets across the range, the plan of the supernet, two
seeds; alone, the supernet's largest network answers beside the labels, as it does for the shared ones. Both are judged
on the test images, with batch norms recalibrated. Runs are kept in ``--out``, go on after an interruption, and are not
made twice.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from store import keep

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
from ofa_tvm.supernet.facts import SupernetFacts, checkpoint_path
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.supernet.plan import Plan, make_plan
from ofa_tvm.supernet.teacher import open_teacher
from ofa_tvm.supernet.training import Trainer
from ofa_tvm.support.console import log
from ofa_tvm.support.ledger import total


def across(space: SearchSpace, count: int) -> list[SubnetConfig]:
    """Subnets from the smallest to the largest, the ones between random ones of evenly spread work."""
    drawn = space.sample_configs(np.random.default_rng(5), 300)
    ordered = sorted(drawn, key=lambda config: space.network(config).macs)
    least, most = (space.network(one).macs for one in (space.smallest, space.largest))
    wanted = np.geomspace(least, most, count)[1:-1]
    between = [min(ordered, key=lambda config: abs(space.network(config).macs - macs)) for macs in wanted]
    return [space.smallest, *between, space.largest]


def plan_alone(facts: SupernetFacts, config: SubnetConfig, seed: int) -> Plan:
    """The plan of the supernet, for one subnet."""
    values = dict(facts.training["plan"])
    recipe, phases = values.pop("recipe"), values.pop("phases")
    plan = make_plan(recipe, sum(phase["steps"] for phase in phases), **values)
    return replace(plan, only=config.key, seed=seed)


def interval(differences: Sequence[float]) -> dict[str, float]:
    """Mean and the ends of its 95 % interval (Student's)."""
    half = float(student.ppf(0.975, len(differences) - 1)) * stdev(differences) / len(differences) ** 0.5
    mean = fmean(differences)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def main() -> None:
    """Train what is missing and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supernet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--subnets", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", help="where the supernet's images are (default: where it found them)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    use_host_threads(None)
    device = torch.device(options.device)
    supernet, facts = load_supernet(options.supernet)
    dataset = supernet_images(options.data, facts, checkpoint_path(options.supernet), log)
    teacher = open_teacher(options.supernet, dataset, device)
    test = Evaluator(dataset, dataset.test, device=device)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for number, config in enumerate(across(supernet.space, options.subnets)):
            shared = test.top1(supernet.to(device), config)
            folder = options.out / f"{number}-{seed}"
            found = folder / "found.json"
            if not found.exists():
                folder.mkdir(parents=True, exist_ok=True)
                trainer = Trainer(supernet.space, dataset, plan_alone(facts, config, seed), folder, device, teacher)
                trainer.run()
                trainer.result.eval()
                cost = total("train", trainer.ledger.costs()).record()
                found.write_text(json.dumps({"top1": test.top1(trainer.result, config), "cost": cost}))
            alone = json.loads(found.read_text())
            rows.append(
                {"subnet": config.key, "macs": supernet.space.network(config).macs, "shared_top1": shared, **alone}
            )
            print(
                f"{config.key}, seed {seed}: alone {alone['top1']:.2%}, shared {shared:.2%} "
                f"({100 * (shared - alone['top1']):+.2f} points), {alone['cost']['wall_s']:.0f} s, "
                f"{alone['cost']['cpu_s']:.0f} CPU s",
                flush=True,
            )
    points = interval([100 * (row["shared_top1"] - row["top1"]) for row in rows])
    cpu_s, wall_s = (sum(row["cost"][name] for row in rows) / options.seeds for name in ("cpu_s", "wall_s"))
    print(
        f"shared less alone: {points['mean']:+.2f} points ({points['low']:+.2f} to {points['high']:+.2f}); "
        f"{options.subnets} alone cost {wall_s:.0f} s, {cpu_s:.0f} CPU s"
    )
    keep(
        f"alone-{facts.space}",
        {"points": points, "cpu_s_of_all_alone": cpu_s, "wall_s_of_all_alone": wall_s, "rows": rows},
    )


if __name__ == "__main__":
    main()
