"""``python -m ofa_tvm.train``: train a supernet by progressive shrinking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.cli import JsonFlag, emit, run_command, table


def train(
    out: Annotated[Path, typer.Option(help="Folder of this training; an unfinished one goes on.")],
    space: Annotated[str, typer.Option(help="Search space.")] = "mbv3-cifar",
    data: Annotated[
        str, typer.Option(help="cifar10, fashion-mnist or imagefolder:PATH (all take name:PATH).")
    ] = "cifar10",
    epoch_scale: Annotated[float, typer.Option(min=0.01, help="Scale the epochs of every phase.")] = 1.0,
    batch: Annotated[int, typer.Option(min=2, help="Images a step.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and sampled subnets.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads (0: all cores).")] = 0,
    accuracy_samples: Annotated[
        int, typer.Option(min=0, help="Subnets to evaluate for the accuracy predictor, 20 or more (0: none).")
    ] = 300,
    json: JsonFlag = False,
) -> None:
    """Train the largest network, then kernel sizes, depths and expand ratios with in-place distillation.

    Resumes after the last complete epoch. Writes supernet.safetensors, training.jsonl and ledger.jsonl.
    """
    import tempfile
    from dataclasses import replace

    import torch

    from ofa_tvm.accuracy.evaluate import Evaluator
    from ofa_tvm.accuracy.samples import FEWEST_HELD_OUT, AccuracySamples
    from ofa_tvm.console import log
    from ofa_tvm.data import load_dataset
    from ofa_tvm.energy import total
    from ofa_tvm.errors import UserError
    from ofa_tvm.spaces import get_space
    from ofa_tvm.stacked import MIN_SAMPLES
    from ofa_tvm.storage import sha256_file, write_json
    from ofa_tvm.supernet.training import DEFAULT_PLAN, Trainer

    search_space = get_space(space)
    fewest = MIN_SAMPLES + FEWEST_HELD_OUT
    if 0 < accuracy_samples < fewest:
        raise UserError(
            f"{accuracy_samples} subnets are too few for an accuracy predictor",
            f"give --accuracy-samples 0 for none, or at least {fewest}",
        )
    # What cannot be written must be said now, not after hours.
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass
    if threads:
        torch.set_num_threads(threads)
    dataset = load_dataset(data, log)
    search_space = search_space.with_classes(len(dataset.class_names))
    plan = replace(DEFAULT_PLAN.scaled(epoch_scale), batch=batch, seed=seed)
    trainer = Trainer(search_space, dataset, plan, out)
    path = trainer.run()
    trainer.supernet.eval()
    predictor = None
    if accuracy_samples:
        evaluator = Evaluator(dataset, dataset.validation)
        samples = AccuracySamples(search_space, out, sha256_file(path)[:16])
        with trainer.ledger.phase("evaluate subnets"):
            samples.sample(accuracy_samples, lambda config: evaluator.top1(trainer.supernet, config))
        predictor = samples.report()
        samples.predictor().save(out, predictor)
    evaluator = Evaluator(dataset, dataset.test)
    configs = {"largest": search_space.largest, "smallest": search_space.smallest}
    accuracy = {name: evaluator.top1(trainer.supernet, config) for name, config in configs.items()}
    cost = total("train", trainer.ledger.costs())
    payload = {
        "checkpoint": str(path),
        "test_top1": accuracy,
        "accuracy_predictor": predictor,
        "cost": cost.record(),
    }
    write_json(out / "accuracy.json", payload)

    def text() -> str:
        rows = [[name, configs[name].key, f"{top1:.2%}"] for name, top1 in accuracy.items()]
        lines = [table(["subnet", "key", "test top-1"], rows)]
        if predictor is not None:
            lines.append(
                f"accuracy predictor: Kendall tau {predictor['kendall_tau']:.3f}, mean error {predictor['mae']:.2%}, "
                f"each fitted to {predictor['samples']} subnets and asked about {predictor['held_out']} others"
            )
        return "\n".join([*lines, str(cost), f"wrote {path}"])

    emit(payload, json, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(train, argv)


if __name__ == "__main__":
    sys.exit(main())
