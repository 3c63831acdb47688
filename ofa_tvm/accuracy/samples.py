"""Evaluated subnets of one supernet, kept beside it, and the predictor trained on them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ofa_tvm.accuracy.predictor import AccuracyPredictor, PredictorQuality
from ofa_tvm.accuracy.uncertainty import Answers
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.console import Task
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, append_jsonl, cache_folder
from ofa_tvm.support.typed import Fraction, SubnetKey, read_lines

Floats = NDArray[np.float64]

FILE_NAME = "accuracy.jsonl"
FOLDS = 4
MIN_HELD_OUT = 10
"""Subnets that ``AccuracySamples.report`` holds out of a fit at least."""
MIN_EVALUATED = 60
MIN_COMPARED = 8
"""Subnets in both precisions before their mean difference counts."""
IDENTITY_DIGITS = 16
MAX_IMAGES = 10**8


def weights_identity(sha256: str, dtype: DType = "float32") -> str:
    """How samples name the checkpoint that they belong to: the start of its SHA-256, and a precision that counts.

    float16 and bfloat16 keep accuracies; int8 moves them.
    """
    return sha256[:IDENTITY_DIGITS] + ("-i8" if dtype == "int8" else "")


def samples_folder(supernet_folder: Path, checkpoint: str) -> Path:
    """Where new samples of a supernet are written: beside it, or in the cache when it came with the package."""
    if supernet_folder.resolve().is_relative_to(Path(__file__).resolve().parent.parent):
        return cache_folder() / "accuracy" / checkpoint
    return supernet_folder


def require_readable(folders: Iterable[Path], files: Iterable[Path] = (), sha256: str = "") -> None:
    """Refuse at once what would end a long run: damaged samples, and files that tell nothing of a supernet.

    Args:
        folders: whose samples are read.
        files: of other machines, about the same supernet.
        sha256: of the supernet.

    Raises:
        UserError: a file is missing, damaged, or of other weights.
    """
    for folder in folders:
        read_lines(folder / FILE_NAME, "accuracy samples", _SAMPLE)
    for path in files:
        _require_file(path)
        lines, identity = read_lines(path, "accuracy samples", _SAMPLE), weights_identity(sha256)
        if not any(line.checkpoint.startswith(identity) for line in lines):
            raise _of_others(path, identity)


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist", f"give the {FILE_NAME} of a training's or search's folder")


def _of_others(path: Path, checkpoint: str) -> UserError:
    return UserError(f"{path} tells nothing of the supernet {checkpoint}", "it is of other weights")


class Evaluate(Protocol):
    """From a subnet to its answers on the held-out images, or to their mean where they are not compared."""

    def __call__(self, config: SubnetConfig) -> Answers | float:
        """Evaluate."""
        ...


class _Sample(BaseModel):
    """A line: a subnet's accuracy, and in some its answers to the images, packed."""

    model_config = ConfigDict(extra="forbid")

    subnet: SubnetKey
    validation_top1: Fraction
    checkpoint: str
    right: str | None = None
    images: Annotated[int, Field(gt=0, le=MAX_IMAGES)] | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.right is None) != (self.images is None):
            raise ValueError("'right' and 'images' belong together")
        if self.right is not None and self.images is not None:
            _unpacked(self.right, self.images)
        return self


_SAMPLE = TypeAdapter(_Sample)


class AccuracySamples:
    """Validation accuracies of a supernet's subnets.

    Args:
        space: the supernet's space.
        folder: the supernet's folder, or another one to write to.
        checkpoint: identity of the weights; samples of other weights are not used.
        shipped: folder of samples that are only read.
        resolutions: input sizes of random subnets; empty for all of the space.
        relative: samples of the same weights in another precision, from which the predictor learns, too.
    """

    def __init__(
        self,
        space: SearchSpace,
        folder: Path,
        checkpoint: str,
        shipped: Path | None = None,
        resolutions: Sequence[int] = (),
        relative: AccuracySamples | None = None,
    ) -> None:
        self.space, self.folder, self._checkpoint, self._relative = space, folder, checkpoint, relative
        self._drawn = space.with_resolutions(resolutions)
        self.table = SubnetTable(space)
        self.top1: dict[str, float] = {}
        self.answers: dict[str, Answers] = {}
        self._now: set[str] = set()
        for source in dict.fromkeys((shipped, folder)):
            if source is not None:
                self.read(source / FILE_NAME)

    def read(self, path: Path) -> list[Record]:
        """Learn a file's accuracies of these weights' subnets; returns its lines about them. Nothing is written."""
        lines = []
        for sample in read_lines(path, "accuracy samples", _SAMPLE):
            if sample.checkpoint == self._checkpoint:
                self._check(sample.subnet, path)
                self.top1[sample.subnet] = sample.validation_top1
                if sample.right is not None and sample.images is not None:
                    self.answers[sample.subnet] = _unpacked(sample.right, sample.images)
                lines.append(sample.model_dump(exclude_none=True))
        return lines

    def _check(self, key: str, path: Path) -> None:
        try:
            self.space.parse(key)
        except UserError as error:
            raise UserError(f"{path} names a subnet that is none: {error.what}", "remove its line") from error

    def merge(self, path: Path) -> int:
        """Take over samples of another machine that evaluated the same weights; returns how many are new.

        Raises:
            UserError: the file is missing or damaged, or holds nothing about these weights.
        """
        _require_file(path)
        evaluated = set(self.top1)
        lines = self.read(path)
        if not lines:
            raise _of_others(path, self._checkpoint)
        new = [line for line in lines if line["subnet"] not in evaluated]
        append_jsonl(self.folder / FILE_NAME, new)
        return len(new)

    def evaluate(self, configs: Sequence[SubnetConfig], evaluate: Evaluate, compared: bool = False) -> list[float]:
        """Accuracies in the given order; only subnets not known yet are evaluated, each appended at once.

        Args:
            configs: the subnets.
            evaluate: evaluates one.
            compared: whether their answers are kept, too, to compare subnets image by image.
        """
        evaluated = (self.answers.keys() | self._now) if compared else self.top1.keys()
        new = [config for config in configs if config.key not in evaluated]
        if new:
            with Task("evaluating subnets", len(new)) as task:
                for config in new:
                    self._keep(config, evaluate(config), compared)
                    task.advance(note=f"{self.top1[config.key]:.2%}")
        return [self.top1[config.key] for config in configs]

    def _keep(self, config: SubnetConfig, found: Answers | float, compared: bool) -> None:
        top1 = float(np.mean(found))
        line = {"subnet": config.key, "validation_top1": top1, "checkpoint": self._checkpoint}
        if compared and isinstance(found, np.ndarray):
            line |= {"right": _packed(found), "images": len(found)}
            self.answers[config.key] = found
        append_jsonl(self.folder / FILE_NAME, [line])
        self.top1[config.key] = top1
        self._now.add(config.key)

    def add(self, configs: Sequence[SubnetConfig], top1: Sequence[float]) -> None:
        """Keep accuracies that were found elsewhere."""
        pairs = list(zip(configs, top1, strict=True))
        lines = [
            {"subnet": config.key, "validation_top1": value, "checkpoint": self._checkpoint} for config, value in pairs
        ]
        append_jsonl(self.folder / FILE_NAME, lines)
        self.top1 |= {config.key: value for config, value in pairs}

    def sample(self, count: int, evaluate: Evaluate, seed: int = 0) -> None:
        """Evaluate random subnets until ``count`` are known."""
        self.evaluate(self.missing(count, seed), evaluate)

    def missing(self, count: int, seed: int = 0) -> list[SubnetConfig]:
        """The random subnets to evaluate until ``count`` are known."""
        rng = np.random.default_rng(seed)
        configs = [self._drawn.largest, self._drawn.smallest, *self._drawn.sample_configs(rng, count)]
        known = self.learnt
        missing = max(0, count - len(known))
        return [config for config in configs if config.key not in known][:missing]

    @property
    def learnt(self) -> dict[str, float]:
        """What the predictor learns from: accuracies of the other precision moved by the mean difference."""
        if self._relative is None:
            return self.top1
        others = self._relative.top1
        both = [self.top1[key] - others[key] for key in self.top1.keys() & others.keys()]
        difference = float(np.mean(both)) if len(both) >= MIN_COMPARED else 0.0
        return {key: top1 + difference for key, top1 in others.items()} | self.top1

    def predictor(self) -> AccuracyPredictor:
        """The predictor fitted to everything known."""
        learnt = self.learnt
        configs = [SubnetConfig.parse(key) for key in learnt]
        return AccuracyPredictor.fit(self.table, configs, np.asarray(list(learnt.values())))

    def report(self, seed: int = 0) -> PredictorQuality:
        """Quality on samples that a fit has not seen: the mean over a cross-validation in quarters.

        Every sample is held out once. Fewer than ``4 * MIN_HELD_OUT`` samples are held out in larger shares.
        """
        learnt = self.learnt
        keys = [str(key) for key in np.random.default_rng(seed).permutation(sorted(learnt))]

        def known(rows: NDArray[np.intp]) -> tuple[list[SubnetConfig], Floats]:
            chosen = [keys[row] for row in rows]
            return [SubnetConfig.parse(key) for key in chosen], np.asarray([learnt[key] for key in chosen])

        rows = np.arange(len(keys))
        folds = np.array_split(rows, max(2, min(FOLDS, len(keys) // MIN_HELD_OUT)))
        qualities = []
        for held_out in folds:
            fitted = AccuracyPredictor.fit(self.table, *known(np.setdiff1d(rows, held_out)))
            qualities.append(fitted.evaluate(*known(held_out)))
        return PredictorQuality(
            samples=len(keys) - len(folds[0]),
            held_out=len(folds[0]),
            folds=len(folds),
            kendall_tau_std=float(np.std([quality["kendall_tau"] for quality in qualities], ddof=1)),
            **{name: float(np.mean([quality[name] for quality in qualities])) for name in qualities[0]},
        )


def _packed(answers: Answers) -> str:
    return base64.b64encode(zlib.compress(np.packbits(answers).tobytes(), 9)).decode()


def _unpacked(text: str, count: int) -> Answers:
    """The inverse of ``_packed``.

    Raises:
        ValueError: it does not hold the answers for ``count`` images.
    """
    length = (count + 7) // 8
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), length + 1)
    except zlib.error as error:
        raise ValueError(f"answers are damaged: {error}") from error
    if len(data) != length:
        raise ValueError(f"answers are those of other than {count} images")
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool)
