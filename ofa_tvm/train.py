"""``python -m ofa_tvm.train``: train a supernet."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.supernet.plan import MAX_SEED, MAX_STEPS, Device, Precision, Recipe
from ofa_tvm.support.command import GOES_ON, HostThreadsOption, JsonFlag, emit, run_command
from ofa_tvm.training.defaults import BATCH, EPOCHS, GPU_BATCH, KNOWING_EPOCHS, SMALL_BATCH

OPTIONS = {name: name for name in ("recipe", "epochs", "steps", "batch", "seed", "precision")} | {
    "resolutions": "resolution"
}
"""What of a plan has an option of its own, and that option."""


def train(
    out: Annotated[Path, typer.Option(help="Folder of this training; an unfinished one goes on.")],
    space: Annotated[str | None, typer.Option(help="Search space (default: that of --init, else mbv3-cifar).")] = None,
    data: Annotated[
        str, typer.Option(help="cifar10, fashion-mnist or imagefolder:PATH (all take name:PATH).")
    ] = "cifar10",
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a trained supernet, also one that ships or an official OFA file (its "
            "classifier is kept where the classes are the same), or efficientnet-lite0 (ImageNet; extra imagenet)."
        ),
    ] = None,
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            help="All subnets in one stage, progressive shrinking in phases, or lower rates for known weights "
            "(default: fine-tune with --init, else single-stage)."
        ),
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(help="Train this input size only; repeat for several (default: all).")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help=f"Times each image is seen (default: {EPOCHS:g}, with --init {KNOWING_EPOCHS:g}; 2000 steps or more).",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=MAX_STEPS, help="Steps in all, instead of epochs.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=2, help=f"Images a step (default: {BATCH}; {SMALL_BATCH} for few images; {GPU_BATCH} on a GPU)."
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A trained supernet whose largest subnet also teaches, with the same classes.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the plan, e.g. ema=0 or random_subnets=2.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of weights, order and sampled subnets.")] = 0,
    device: Annotated[Device | None, typer.Option(help="Where to train (default: the GPU if torch sees one).")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Type of convolutions (default: bfloat16 on a GPU, else float32).")
    ] = None,
    host_threads: HostThreadsOption = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1, max=20, help="Parts of a cross-validation, each a training more (default: 4 for few images, else 1)."
        ),
    ] = None,
    accuracy_samples: Annotated[
        int, typer.Option(min=0, help="Subnets to evaluate for the accuracy predictor, 20 or more (0: none).")
    ] = 300,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the training would cost, from a few steps of it, and end.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Train all subnets together: the largest on the labels, smaller ones on its answers.

    Resumes after the last minute of work. Writes supernet.safetensors, training.jsonl and ledger.jsonl. With torchrun,
    several processes or machines train together: torchrun --nproc-per-node 2 -m ofa_tvm.train ...
    """
    from ofa_tvm.reporting.training_text import expected_text, outcome_text
    from ofa_tvm.training.session import TrainingRequest, TrainingSession
    from ofa_tvm.training.session import train as run_training

    request = TrainingRequest(
        out,
        data,
        space,
        init,
        recipe,
        tuple(resolution or ()),
        epochs,
        steps,
        batch,
        teacher,
        _changes(change or []),
        seed,
        device,
        precision,
        host_threads,
        folds,
        accuracy_samples,
    )
    if dry_run:
        expected = TrainingSession(request, writes=False).expected()
        emit(expected.record(), json, lambda: expected_text(expected))
    elif outcome := run_training(request):
        emit(outcome.record(), json, lambda: outcome_text(outcome))


def _changes(pairs: list[str]) -> dict[str, str]:
    from ofa_tvm.support.errors import UserError

    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair} is not NAME=VALUE", "for example --set ema=0")
        if name in OPTIONS:
            raise UserError(f"--set {name} has an option of its own", f"give --{OPTIONS[name]} {value}")
        changes[name] = value
    return changes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(train, argv, saved=GOES_ON)


if __name__ == "__main__":
    ended = main()
    if "WORLD_SIZE" in os.environ:
        from ofa_tvm.supernet.ranks import end_process

        end_process(ended)
    sys.exit(ended)
