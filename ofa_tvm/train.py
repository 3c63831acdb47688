"""``python -m ofa_tvm.train``: train a supernet by progressive shrinking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ofa_tvm.supernet.plan import Precision
from ofa_tvm.support.command import JsonFlag, emit, run_command, table

if TYPE_CHECKING:
    from ofa_tvm.supernet.training import Trainer

Device = Literal["cpu", "cuda"]


def train(
    out: Annotated[Path, typer.Option(help="Folder of this training; an unfinished one goes on.")],
    space: Annotated[str, typer.Option(help="Search space.")] = "mbv3-cifar",
    data: Annotated[
        str, typer.Option(help="cifar10, fashion-mnist or imagefolder:PATH (all take name:PATH).")
    ] = "cifar10",
    epoch_scale: Annotated[float, typer.Option(min=0.01, help="Scale the epochs of every phase.")] = 1.0,
    batch: Annotated[int, typer.Option(min=2, help="Images a step.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and sampled subnets.")] = 0,
    device: Annotated[Device | None, typer.Option(help="Where to train (default: the GPU if torch sees one).")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Type of convolutions (default: bfloat16 on a GPU, else float32).")
    ] = None,
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

    from ofa_tvm.accuracy.samples import FEWEST_HELD_OUT
    from ofa_tvm.data import load_dataset
    from ofa_tvm.regression.stacked_regressor import MIN_SAMPLES
    from ofa_tvm.spaces import get_space
    from ofa_tvm.supernet.evaluate import Evaluator
    from ofa_tvm.supernet.plan import DEFAULT_PLAN
    from ofa_tvm.supernet.training import Trainer
    from ofa_tvm.supernet.training_device import training_device
    from ofa_tvm.support.console import log
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import write_json
    from ofa_tvm.support.ledger import total

    search_space = get_space(space)
    fewest = MIN_SAMPLES + FEWEST_HELD_OUT
    if 0 < accuracy_samples < fewest:
        raise UserError(
            f"{accuracy_samples} subnets are too few for an accuracy predictor",
            f"give --accuracy-samples 0 for none, or at least {fewest}",
        )
    torch_device = training_device(device, threads)
    precision = precision or ("bfloat16" if torch_device.type == "cuda" else "float32")
    if precision == "bfloat16" and torch_device.type == "cpu":
        log("bfloat16 on a CPU: a processor without instructions for it is many times slower than with float32")
    plan = replace(DEFAULT_PLAN.scaled(epoch_scale), batch=batch, seed=seed, precision=precision)
    # What cannot be written must be said now, not after hours.
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass
    dataset = load_dataset(data, log)
    search_space = search_space.with_classes(len(dataset.class_names))
    trainer = Trainer(search_space, dataset, plan, out, torch_device)
    path = trainer.run()
    trainer.supernet.eval()
    predictor = _accuracy_predictor(trainer, path, accuracy_samples) if accuracy_samples else None
    evaluator = Evaluator(dataset, dataset.test, device=torch_device)
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


def _accuracy_predictor(trainer: Trainer, checkpoint: Path, count: int) -> dict[str, Any]:
    """Evaluate subnets, save a predictor fitted to them beside the checkpoint, and report how good it is."""
    from ofa_tvm.accuracy.samples import AccuracySamples
    from ofa_tvm.supernet.evaluate import Evaluator
    from ofa_tvm.support.files import sha256_file

    evaluator = Evaluator(trainer.dataset, trainer.dataset.validation, device=trainer.device)
    samples = AccuracySamples(trainer.space, trainer.folder, sha256_file(checkpoint)[:16])
    with trainer.ledger.phase("evaluate subnets"):
        samples.sample(count, lambda config: evaluator.top1(trainer.supernet, config))
    report = samples.report()
    samples.predictor().save(trainer.folder, report)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(train, argv)


if __name__ == "__main__":
    sys.exit(main())
