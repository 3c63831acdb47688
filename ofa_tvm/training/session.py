"""A training as one call: images and a plan in; a supernet, its accuracies and an accuracy predictor out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ofa_tvm.accuracy.doubt import doubts
from ofa_tvm.accuracy.predictor import PredictorQuality
from ofa_tvm.accuracy.samples import MIN_HELD_OUT, AccuracySamples, require_readable, weights_identity
from ofa_tvm.data import load_dataset
from ofa_tvm.data.dataset import Dataset
from ofa_tvm.regression.stacked_regressor import MIN_SAMPLES
from ofa_tvm.spaces import SPACES, SearchSpace, SubnetConfig, get_space
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.graphed_step import has_graphed_step
from ofa_tvm.supernet.held_out import HeldOut, fold_folder
from ofa_tvm.supernet.host_threads import use_host_threads
from ofa_tvm.supernet.plan import Device, Plan, Precision, Recipe
from ofa_tvm.supernet.ranks import is_first_process, joined
from ofa_tvm.supernet.start import Start, open_start
from ofa_tvm.supernet.teacher import open_teacher
from ofa_tvm.supernet.training import STATE_NAME, Trainer
from ofa_tvm.supernet.training_cost import expected_cost
from ofa_tvm.supernet.training_device import training_device
from ofa_tvm.support.console import Task, log, warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, sha256_file, write_json
from ofa_tvm.support.holding import LOCK, held
from ofa_tvm.support.ledger import Cost, total
from ofa_tvm.training.defaults import ENOUGH, FOLDS, MAX_EPOCHS, SPACE, plan_for

SHRUNK = 1.5
"""Images this many times larger than a network's input are worth a warning."""


@dataclass(frozen=True)
class TrainingRequest:
    """What is trained.

    Args:
        out: folder of the training; an unfinished one is resumed.
        data: images, as ``load_dataset`` takes them.
        space: its name; None for that of the weights it starts from.
        init: weights to start from, as ``open_start`` takes them.
        recipe: None for the one that fits.
        resolutions: that are trained; empty for all.
        epochs: times each image is seen; None for the default.
        steps: in all, instead of epochs.
        batch: images a step; None for the default.
        teacher: a supernet that answers beside the labels.
        values: of other fields of the plan, as numbers or as texts.
        seed: of weights, order and sampled subnets.
        device: None for the GPU if torch sees one.
        precision: None for the one that is fast on the device.
        host_threads: of torch; None for the cores that are idle.
        folds: parts of a cross-validation; None for the default.
        accuracy_samples: subnets that are evaluated for an accuracy predictor; 0 for none.
    """

    out: Path
    data: str = "cifar10"
    space: str | None = None
    init: str | None = None
    recipe: Recipe | None = None
    resolutions: Sequence[int] = ()
    epochs: float | None = None
    steps: int | None = None
    batch: int | None = None
    teacher: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: Device | None = None
    precision: Precision | None = None
    host_threads: int | None = None
    folds: int | None = None
    accuracy_samples: int = 300


@dataclass(frozen=True)
class SubnetAccuracy:
    """A subnet's top-1 on all test images."""

    key: str
    top1: float


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training.

    Args:
        checkpoint: the supernet.
        test: of the largest and the smallest subnet.
        test_images: how many there are.
        predictor: how good the accuracy predictor is; None where there is none.
        cost: of all of it.
        has_written: whether the checkpoint was written; a whole one of a finished training is left alone.
    """

    checkpoint: Path
    test: Mapping[str, SubnetAccuracy]
    test_images: int
    predictor: PredictorQuality | None
    cost: Cost
    has_written: bool = True

    def record(self) -> Record:
        """As a JSON object."""
        return {
            "checkpoint": str(self.checkpoint),
            "test_top1": {name: accuracy.top1 for name, accuracy in self.test.items()},
            "accuracy_predictor": None if self.predictor is None else asdict(self.predictor),
            "cost": self.cost.record(),
        }


@dataclass(frozen=True)
class ExpectedTraining:
    """What a training will do and cost.

    Args:
        plan: of the training whose supernet is wanted.
        images: that it trains on.
        held_out: images that accuracies are counted on.
        trainings: how many there are, those of a cross-validation included.
        cost: of all their remaining steps, without evaluation.
    """

    plan: Plan
    images: int
    held_out: int
    trainings: int
    cost: Cost

    @property
    def epochs(self) -> float:
        """Times each image is seen."""
        return self.plan.steps * self.plan.batch / self.images

    def record(self) -> Record:
        """As a JSON object."""
        facts = {"epochs": self.epochs, "steps": self.plan.steps, "cost": self.cost.record()}
        return asdict(self) | facts


def _remove_unused_lock(folder: Path) -> None:
    """Remove the lock that a training that did not begin holds in a folder."""
    if not (folder / STATE_NAME).exists():
        (folder / LOCK).unlink(missing_ok=True)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


class TrainingSession:
    """A training that is ready to run: data, weights and plan are checked.

    Args:
        request: what is trained.
        writes: whether it will run; its folder is then held until it has run.

    Raises:
        UserError: something cannot be read, or does not fit; or another process trains in that folder.
    """

    def __init__(self, request: TrainingRequest, *, writes: bool = True) -> None:
        self._request = request
        start = open_start(request.init) if request.init is not None else None
        _require_enough(request.accuracy_samples)
        if request.epochs is not None and request.steps is not None:
            raise UserError("--epochs and --steps say the same", "give one of them")
        if request.epochs is not None and not 0 < request.epochs <= MAX_EPOCHS:  # that is no number, either
            raise UserError(f"--epochs cannot be {request.epochs:g}", f"give a number up to {MAX_EPOCHS:,.0f}")
        self._device = device = training_device(request.device)
        use_host_threads(request.host_threads)
        precision = request.precision or ("bfloat16" if device.type == "cuda" else "float32")
        if precision == "bfloat16" and device.type == "cpu":
            warn("bfloat16 on a CPU: a processor without instructions for it is many times slower than with float32")
        with ExitStack() as holding:
            if writes and is_first_process():  # a folder that cannot be written is reported now, not after hours
                if not request.out.exists():
                    holding.callback(_remove_if_empty, request.out)
                request.out.mkdir(parents=True, exist_ok=True)
                holding.enter_context(held(request.out))
                holding.callback(_remove_unused_lock, request.out)  # while it is held: never another process's
            self._prepare(start, precision)
            self._holding = holding.pop_all()

    def _prepare(self, start: Start | None, precision: Precision) -> None:
        """Load the images, and make the plan and its trainers."""
        request, device = self._request, self._device
        if request.accuracy_samples:
            require_readable([request.out])
        dataset = load_dataset(request.data, log)
        if start is not None:
            dataset = replace(dataset, preprocess=start.preprocess)
            start = start.elastic(dataset, request.resolutions)
        space = _space(request.space, start)
        drawn = space.with_resolutions(request.resolutions)
        if not request.resolutions:
            _warn_of_shrinking(drawn, dataset)
        folds = request.folds or (FOLDS if dataset.held_out < ENOUGH and request.accuracy_samples else 1)
        most_held_out = max(part.held_out for part in dataset.folds(folds)) if folds > 1 else dataset.held_out
        plan = plan_for(
            len(dataset.train),
            request.recipe or ("fine-tune" if start else "single-stage"),
            fewest=len(dataset.all_training) - most_held_out,
            epochs=request.epochs,
            steps=request.steps,
            batch=request.batch,
            knows=start is not None,
            is_graphed=has_graphed_step(space, device),
            values={
                **{"seed": request.seed, "precision": precision, "resolutions": tuple(request.resolutions)},
                **request.values,
            },
        )
        teacher = open_teacher(request.teacher, dataset, device) if request.teacher is not None else None
        self._ranks = joined(device)
        space = space.with_classes(len(dataset.class_names))
        begun = partial(Trainer, space, plan=plan, device=device, teacher=teacher, ranks=self._ranks, start=start)
        self.trainers = _trainers(begun, dataset, request.out, folds)
        """Those of a cross-validation, if there is one, and last the one whose supernet is wanted."""

    @property
    def trainer(self) -> Trainer:
        """The trainer whose supernet is wanted."""
        return self.trainers[-1]

    def expected(self) -> ExpectedTraining:
        """What is left, and what it will cost; the session cannot run afterwards."""
        return ExpectedTraining(
            plan=self.trainer.plan,
            images=len(self.trainer.dataset.train),
            held_out=self.trainers[0].dataset.held_out,
            trainings=len(self.trainers),
            cost=total("expected", [expected_cost(trainer) for trainer in self.trainers]),
        )

    def run(self) -> TrainingOutcome | None:
        """Train, evaluate, and write the outcome into the folder; None in all processes but the first."""
        with self._holding:
            path = self._train()
            predictor = self._accuracy_predictor(path) if self._request.accuracy_samples else None
            return self._outcome(path, predictor) if self._ranks.is_first else None

    def _outcome(self, path: Path, predictor: PredictorQuality | None) -> TrainingOutcome:
        trainer = self.trainer
        dataset, space = trainer.dataset, trainer.space.with_resolutions(trainer.plan.resolutions)
        evaluator = Evaluator(dataset, dataset.test, device=trainer.device)
        configs = {"largest": space.largest, "smallest": space.smallest}
        test = {
            name: SubnetAccuracy(config.key, evaluator.top1(trainer.result, config)) for name, config in configs.items()
        }
        cost = total("train", [cost for part in self.trainers for cost in part.ledger.costs()])
        outcome = TrainingOutcome(path, test, len(dataset.test), predictor, cost, trainer.has_written)
        write_json(trainer.folder / "accuracy.json", outcome.record())
        return outcome

    def _train(self) -> Path:
        """Run the trainings one after the other; returns the last one's checkpoint."""
        for number, trainer in enumerate(self.trainers, 1):
            if (count := len(self.trainers)) > 1:
                role = f"part {number} of a cross-validation" if number < count else "all images"
                log(f"training {number} of {count}: {role}, {len(trainer.dataset.train)} images")
            path = trainer.run()
            trainer.result.eval()
        return path

    def _accuracy_predictor(self, checkpoint: Path) -> PredictorQuality | None:
        """Evaluate subnets, save a predictor fitted to them beside the checkpoint, and report how good it is.

        Processes that train together share the work; the first of them has the report.
        """
        trainer, parts = self.trainer, self.trainers[:-1] or self.trainers
        held_out = HeldOut(
            [(part.result, Evaluator(part.dataset, part.dataset.validation, device=part.device)) for part in parts]
        )
        identity = weights_identity(sha256_file(checkpoint))
        samples = AccuracySamples(trainer.space, trainer.folder, identity, resolutions=trainer.plan.resolutions)
        with trainer.ledger.phase("evaluate subnets"):
            self._evaluate(samples, samples.missing(self._request.accuracy_samples), held_out.top1)
        if not self._ranks.is_first:
            return None
        report = samples.report()
        for doubt in doubts(samples, held_out.images, report):
            warn(f"beware: {doubt}")
        samples.predictor().save(trainer.folder, report)
        return report

    def _evaluate(
        self, samples: AccuracySamples, configs: Sequence[SubnetConfig], top1_of: Callable[[SubnetConfig], float]
    ) -> None:
        with Task("evaluating subnets", len(configs)) as task:
            for some in self._ranks.rounds(configs):
                top1 = self._ranks.spread(some, top1_of)
                if self._ranks.is_first:
                    samples.add(some, top1)
                task.advance(len(some), note=f"{top1[-1]:.2%}")


def train(request: TrainingRequest) -> TrainingOutcome | None:
    """Train a supernet, or resume; returns None in all processes but the first.

    Raises:
        UserError: see ``TrainingSession``.
    """
    return TrainingSession(request).run()


def _space(name: str | None, start: Start | None) -> SearchSpace:
    """The space of that name, or of the weights to start from, or the default.

    Raises:
        UserError: there is none of that name.
    """
    own = None if start is None else start.supernet.space
    if own is not None and name in (None, own.name):
        return own
    if own is not None and name not in SPACES:
        raise UserError(f"the weights are of space {own.name}, not {name}", "leave out --space")
    return get_space(name or SPACE)


def _require_enough(accuracy_samples: int) -> None:
    fewest = MIN_SAMPLES + MIN_HELD_OUT
    if 0 < accuracy_samples < fewest:
        raise UserError(
            f"{accuracy_samples} subnets are too few for an accuracy predictor",
            f"give --accuracy-samples 0 for none, or at least {fewest}",
        )


def _warn_of_shrinking(space: SearchSpace, dataset: Dataset) -> None:
    """Warn when the space shrinks the images much, and name spaces that take larger ones."""
    size, most = dataset.all_training.images.shape[1], max(space.resolutions)
    if size < SHRUNK * most:
        return
    larger = [other for other in SPACES.values() if most < max(other.resolutions) < SHRUNK * size]
    others = ", ".join(f"{other.name} takes {min(other.resolutions)}-{max(other.resolutions)}" for other in larger)
    log(
        f"beware: images of {size} pixels are shrunk to {most} at most, the largest that {space.name} takes"
        + (others and f"; {others}")
    )


def _trainers(begun: Callable[..., Trainer], dataset: Dataset, out: Path, folds: int) -> list[Trainer]:
    if folds == 1:
        return [begun(dataset=dataset, folder=out)]
    begun = partial(begun, folds=folds)
    parts = [begun(dataset=part, folder=fold_folder(out, number)) for number, part in enumerate(dataset.folds(folds))]
    return [*parts, begun(dataset=replace(dataset, held_out=0), folder=out)]
