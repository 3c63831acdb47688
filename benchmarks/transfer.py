"""What a start is worth: Fashion-MNIST from the supernet that ships, trained on CIFAR-10, and from nothing.

Both get the same images, steps and batches, few images and many. The largest and the smallest subnet are judged on
the test images after recalibration. CIFAR-10 has no clothes, so no class was seen before. Runs are kept in ``--out``
and not made twice.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from store import keep

from ofa_tvm.accuracy.uncertainty import standard_error
from ofa_tvm.data import load_dataset
from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.supernet.plan import Recipe
from ofa_tvm.supernet.start import open_start
from ofa_tvm.supernet.training import Trainer
from ofa_tvm.support.console import log
from ofa_tvm.support.ledger import total
from ofa_tvm.training.defaults import plan_for


@dataclass(frozen=True)
class Variant:
    """How a training begins: weights, recipe, and values of the plan."""

    start: str | None
    recipe: Recipe
    values: dict[str, Any]


def variants(space: str) -> dict[str, Variant]:
    """By name."""
    return {
        "from nothing": Variant(None, "single-stage", {}),
        "from the shipped supernet": Variant(space, "fine-tune", {}),
        "from it, body as fast as the head": Variant(space, "fine-tune", {"body_rate": 1.0}),
    }


def some_of(dataset: Dataset, images: int) -> Dataset:
    """A data set with so many training images, a tenth of which is held out."""
    rows = np.sort(np.random.default_rng(0).permutation(len(dataset.all_training))[:images])
    return replace(dataset, all_training=dataset.all_training.take(rows), held_out=images // 10)


def run(variant: Variant, space_name: str, dataset: Dataset, seed: int, folder: Path) -> dict[str, Any]:
    """Train, or go on with it; accuracies and cost."""
    start = None if variant.start is None else open_start(variant.start)
    if start is not None:
        dataset = replace(dataset, preprocess=start.preprocess)
    space = get_space(space_name).with_classes(len(dataset.class_names))
    plan = plan_for(len(dataset.train), variant.recipe, knows=True, values={"seed": seed, **variant.values})
    trainer = Trainer(space, dataset, plan, folder, start=start)
    trainer.run()
    evaluator = Evaluator(dataset, dataset.test)
    trainer.result.eval()
    top1 = {
        name: evaluator.top1(trainer.result, config)
        for name, config in (("largest", space.largest), ("smallest", space.smallest))
    }
    outcome = {
        "images": len(dataset.train),
        "steps": plan.steps,
        "batch": plan.batch,
        "seed": seed,
        "test_top1": top1,
        "cost": total("train", trainer.ledger.costs()).record(),
    }
    (folder / "outcome.json").write_text(json.dumps(outcome))
    return outcome


def main() -> None:
    """Train and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--space", default="mbv3-cifar", help="a space whose supernet ships")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    use_host_threads(None)
    dataset, outcomes = load_dataset(options.data, log), []
    for images in options.images:
        for name, variant in variants(options.space).items():
            for seed in range(options.seeds):
                folder = options.out / f"{images}-{name.replace(' ', '-').replace(',', '')}-{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / "outcome.json"
                done = path.exists()
                outcome = (
                    json.loads(path.read_text())
                    if done
                    else run(variant, options.space, some_of(dataset, images), seed, folder)
                )
                outcomes.append({"variant": name, **outcome})
                top1 = ", ".join(
                    f"{which} {value:.2%} ± {standard_error(value, len(dataset.test)):.2%}"
                    for which, value in outcome["test_top1"].items()
                )
                cost = outcome["cost"]
                print(f"{images} images, {name}, seed {seed}: {top1}; {cost['wall_s']:.0f} s", flush=True)
    keep("transfer", {"space": options.space, "data": options.data, "outcomes": outcomes})


if __name__ == "__main__":
    main()
