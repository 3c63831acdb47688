"""``python -m ofa_tvm.train``: train a supernet."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ofa_tvm.supernet.plan import Precision, Recipe
from ofa_tvm.support.command import HostThreadsOption, JsonFlag, emit, run_command, share, table

if TYPE_CHECKING:
    from ofa_tvm.data.dataset import Dataset
    from ofa_tvm.spaces import SearchSpace
    from ofa_tvm.supernet.plan import Plan
    from ofa_tvm.supernet.training import Trainer

Device = Literal["cpu", "cuda"]
EPOCHS, KNOWING_EPOCHS = 60.0, 10.0
DEFAULT_SPACE = "mbv3-cifar"
LEAST_STEPS = 2000
"""Steps that the default plan has at least, however few images there are."""
SMALL = 10_000
"""Training images below which a batch is smaller by default, so that an epoch has more steps."""
BATCH, SMALL_BATCH = 128, 64
GPU_BATCH, GPU_RATE_SCALE = 512, 2.0
"""On a GPU, whose launches take as long whatever the batch."""
LEAST_WINDOW, MOST_WINDOW, WINDOWS = 32, 1024, 40
"""Steps of a window of random subnets on a GPU, and windows of a training."""
SHRUNK = 1.5
"""Images so many times larger than what a network sees of them are worth a word."""
OPTIONS = ("batch", "seed", "precision", "resolutions")
"""What of a plan has an option of its own."""
FOLDS, ENOUGH = 4, 1000
"""Parts of a cross-validation where fewer images than that could be held out."""


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
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all, instead of epochs.")] = None,
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, order and sampled subnets.")] = 0,
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
    import tempfile
    from dataclasses import replace
    from functools import partial

    from ofa_tvm.data import load_dataset
    from ofa_tvm.spaces import get_space
    from ofa_tvm.supernet.graphed_step import has_graphed_step
    from ofa_tvm.supernet.host_threads import use_host_threads
    from ofa_tvm.supernet.ranks import joined
    from ofa_tvm.supernet.start import open_start
    from ofa_tvm.supernet.teacher import open_teacher
    from ofa_tvm.supernet.training import Trainer
    from ofa_tvm.supernet.training_device import training_device
    from ofa_tvm.support.console import log
    from ofa_tvm.support.errors import UserError

    start = open_start(init) if init is not None else None
    search_space = get_space(space or (start.supernet.space.name if start else DEFAULT_SPACE))
    _require_enough(accuracy_samples)
    if epochs is not None and steps is not None:
        raise UserError("--epochs and --steps say the same", "give one of them")
    changes = _changes(change or [])
    torch_device = training_device(device)
    use_host_threads(host_threads)
    precision = precision or ("bfloat16" if torch_device.type == "cuda" else "float32")
    if precision == "bfloat16" and torch_device.type == "cpu":
        log("bfloat16 on a CPU: a processor without instructions for it is many times slower than with float32")
    if not dry_run:  # what cannot be written must be said now, not after hours
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    dataset = load_dataset(data, log)
    if start is not None:
        dataset = replace(dataset, preprocess=start.preprocess)
    _warn_of_shrinking(search_space.with_resolutions(resolution), dataset)
    values = {"seed": seed, "precision": precision, "resolutions": tuple(resolution or ()), **changes}
    recipe = recipe or ("fine-tune" if start else "single-stage")
    by_default = KNOWING_EPOCHS if start else EPOCHS, has_graphed_step(search_space, torch_device)
    plan = _plan(dataset, recipe, epochs, steps, batch, values, *by_default)
    search_space = search_space.with_classes(len(dataset.class_names))
    teaching = open_teacher(teacher, dataset, torch_device) if teacher is not None else None
    ranks = joined(torch_device)
    folds = folds or (FOLDS if dataset.held_out < ENOUGH and accuracy_samples else 1)
    begun = partial(Trainer, search_space, plan=plan, device=torch_device, teacher=teaching, ranks=ranks, start=start)
    trainers = _trainers(begun, dataset, out, folds)
    if dry_run:
        _emit_cost(trainers, json)
        return
    path = _run(trainers)
    predictor = _accuracy_predictor(trainers, path, accuracy_samples) if accuracy_samples else None
    if ranks.is_first:
        _emit_accuracy(trainers, path, predictor, json)


def _require_enough(accuracy_samples: int) -> None:
    if not accuracy_samples:
        return
    from ofa_tvm.accuracy.samples import FEWEST_HELD_OUT
    from ofa_tvm.regression.stacked_regressor import MIN_SAMPLES
    from ofa_tvm.support.errors import UserError

    fewest = MIN_SAMPLES + FEWEST_HELD_OUT
    if accuracy_samples < fewest:
        raise UserError(
            f"{accuracy_samples} subnets are too few for an accuracy predictor",
            f"give --accuracy-samples 0 for none, or at least {fewest}",
        )


def _warn_of_shrinking(space: SearchSpace, dataset: Dataset) -> None:
    """Say when images are made much smaller than they are, and which spaces would see more of them."""
    from ofa_tvm.spaces import SPACES
    from ofa_tvm.support.console import log

    size, most = dataset.all_training.images.shape[1], max(space.resolutions)
    if size < SHRUNK * most:
        return
    larger = [one for one in SPACES.values() if most < max(one.resolutions) < SHRUNK * size]
    others = ", ".join(f"{one.name} takes {min(one.resolutions)}-{max(one.resolutions)}" for one in larger)
    log(
        f"beware: images of {size} pixels are shrunk to {most} at most, the largest that {space.name} takes"
        + (others and f"; {others}")
    )


def _trainers(begun: Callable[..., Trainer], dataset: Dataset, out: Path, folds: int) -> list[Trainer]:
    """Those of a cross-validation, if there is one, and at last the one whose supernet is wanted."""
    from dataclasses import replace

    from ofa_tvm.supernet.held_out import fold_folder

    if folds == 1:
        return [begun(dataset=dataset, folder=out)]
    parts = [begun(dataset=one, folder=fold_folder(out, number)) for number, one in enumerate(dataset.folds(folds))]
    return [*parts, begun(dataset=replace(dataset, held_out=0), folder=out, folds=folds)]


def _run(trainers: Sequence[Trainer]) -> Path:
    """Train one after the other; the last one's checkpoint."""
    from ofa_tvm.support.console import log

    for number, trainer in enumerate(trainers, 1):
        if len(trainers) > 1:
            role = f"part {number} of a cross-validation" if number < len(trainers) else "all images"
            log(f"training {number} of {len(trainers)}: {role}, {len(trainer.dataset.train)} images")
        path = trainer.run()
        trainer.result.eval()
    return path


def _emit_accuracy(trainers: Sequence[Trainer], path: Path, predictor: dict[str, Any] | None, json: bool) -> None:
    """Write and print what was trained: accuracies on the test images, the predictor's quality, the cost."""
    from ofa_tvm.accuracy.uncertainty import standard_error
    from ofa_tvm.supernet.evaluate import Evaluator
    from ofa_tvm.support.files import write_json
    from ofa_tvm.support.ledger import total

    trainer = trainers[-1]
    dataset, space = trainer.dataset, trainer.space.with_resolutions(trainer.plan.resolutions)
    evaluator = Evaluator(dataset, dataset.test, device=trainer.device)
    configs = {"largest": space.largest, "smallest": space.smallest}
    accuracy = {name: evaluator.top1(trainer.result, config) for name, config in configs.items()}
    cost = total("train", [cost for one in trainers for cost in one.ledger.costs()])
    payload = {
        "checkpoint": str(path),
        "test_top1": accuracy,
        "accuracy_predictor": predictor,
        "cost": cost.record(),
    }
    write_json(trainer.folder / "accuracy.json", payload)

    def text() -> str:
        images = len(dataset.test)
        rows = [[name, configs[name].key, share(top1, standard_error(top1, images))] for name, top1 in accuracy.items()]
        lines = [table(["subnet", "key", "test top-1"], rows)]
        if predictor is not None:
            lines.append(
                f"accuracy predictor: Kendall tau {predictor['kendall_tau']:.3f}, mean error {predictor['mae']:.2%}, "
                f"each fitted to {predictor['samples']} subnets and asked about {predictor['held_out']} others"
            )
        return "\n".join([*lines, str(cost), f"wrote {path}"])

    emit(payload, json, text)


def _changes(pairs: list[str]) -> dict[str, str]:
    from ofa_tvm.support.errors import UserError

    changes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair} is not NAME=VALUE", "for example --set ema=0")
        if name in OPTIONS:
            raise UserError(f"--set {name} has an option of its own", f"give --{name.removesuffix('s')}")
        changes[name] = value
    return changes


def _plan(
    dataset: Dataset,
    recipe: Recipe,
    epochs: float | None,
    steps: int | None,
    batch: int | None,
    values: dict[str, Any],
    epochs_by_default: float,
    is_graphed: bool,
) -> Plan:
    """The plan for so many images."""
    from ofa_tvm.supernet.plan import make_plan

    images = len(dataset.train)
    if batch is None and is_graphed and images >= SMALL:
        batch, values = GPU_BATCH, {"rate_scale": GPU_RATE_SCALE, **values}
    batch = batch or (min(SMALL_BATCH, images) if images < SMALL else BATCH)
    if steps is None:
        steps = max(1, round((epochs or epochs_by_default) * images / batch))
        steps = steps if epochs is not None else max(LEAST_STEPS, steps)
    if is_graphed:
        values = {"window": min(MOST_WINDOW, max(LEAST_WINDOW, steps // WINDOWS)), **values}
    return make_plan(recipe, steps, batch=batch, **values)


def _emit_cost(trainers: Sequence[Trainer], json: bool) -> None:
    from dataclasses import asdict

    from ofa_tvm.supernet.training_cost import expected_cost
    from ofa_tvm.support.ledger import total

    plan, images, trainings = trainers[-1].plan, len(trainers[-1].dataset.train), len(trainers)
    cost = total("expected", [expected_cost(trainer) for trainer in trainers])
    epochs = plan.steps * plan.batch / images
    payload = {
        "plan": asdict(plan),
        "images": images,
        "epochs": epochs,
        "steps": plan.steps,
        "trainings": trainings,
        "cost": cost.record(),
    }
    times = f", {trainings} times for a cross-validation" if trainings > 1 else ""

    def text() -> str:
        seconds = cost.wall_s
        hours = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} minutes"
        return (
            f"{images} images, {plan.steps} steps of {plan.batch} ({epochs:.1f} epochs), {plan.recipe}{times}: about "
            f"{hours}, {cost.energy}, without evaluation"
        )

    emit(payload, json, text)


def _accuracy_predictor(trainers: Sequence[Trainer], checkpoint: Path, count: int) -> dict[str, Any] | None:
    """Evaluate subnets, save a predictor fitted to them beside the checkpoint, and report how good it is.

    Processes that train together share the work; the first of them has the report.
    """
    from ofa_tvm.accuracy.doubt import doubts
    from ofa_tvm.accuracy.samples import AccuracySamples, weights_identity
    from ofa_tvm.supernet.evaluate import Evaluator
    from ofa_tvm.supernet.held_out import HeldOut
    from ofa_tvm.support.console import Task, log
    from ofa_tvm.support.files import sha256_file

    trainer, parts = trainers[-1], trainers[:-1] or trainers
    held_out = HeldOut(
        [(part.result, Evaluator(part.dataset, part.dataset.validation, device=part.device)) for part in parts]
    )
    identity = weights_identity(sha256_file(checkpoint))
    samples = AccuracySamples(trainer.space, trainer.folder, identity, resolutions=trainer.plan.resolutions)
    ranks = trainer.ranks
    with trainer.ledger.phase("evaluate subnets"):
        missing = samples.missing(count)
        with Task("evaluating subnets", len(missing)) as task:
            for some in ranks.rounds(missing):
                top1 = ranks.spread(some, held_out.top1)
                if ranks.is_first:
                    samples.add(some, top1)
                task.advance(len(some), note=f"{top1[-1]:.2%}")
    if not ranks.is_first:
        return None
    report = samples.report()
    for doubt in doubts(samples, held_out.images, report):
        log(f"beware: {doubt}")
    samples.predictor().save(trainer.folder, report)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(train, argv)


if __name__ == "__main__":
    ended = main()
    if "WORLD_SIZE" in os.environ:
        from ofa_tvm.supernet.ranks import end_process

        end_process(ended)
    sys.exit(ended)
