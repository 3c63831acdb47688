"""Evaluated subnets of one supernet, kept beside it, and the predictor trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.predictor import AccuracyPredictor
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.console import Task
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl, cache_folder, read_jsonl

Floats = NDArray[np.float64]

FILE_NAME = "accuracy.jsonl"
FOLDS = 4
FEWEST_HELD_OUT = 10
"""Subnets that ``AccuracySamples.report`` holds out of a fit at least."""
FEWEST = 60
IDENTITY_DIGITS = 16


def weights_identity(sha256: str) -> str:
    """How samples name the checkpoint that they belong to: the start of its SHA-256."""
    return sha256[:IDENTITY_DIGITS]


def samples_folder(supernet_folder: Path, checkpoint: str) -> Path:
    """Where new samples of a supernet are written: beside it, or in the cache when it came with the package."""
    if supernet_folder.resolve().is_relative_to(Path(__file__).resolve().parent.parent):
        return cache_folder() / "accuracy" / checkpoint
    return supernet_folder


class Evaluate(Protocol):
    """From a subnet to its top-1 fraction on the held-out images."""

    def __call__(self, config: SubnetConfig) -> float:
        """Evaluate."""
        ...


class AccuracySamples:
    """Validation accuracies of a supernet's subnets.

    Args:
        space: the supernet's space.
        folder: the supernet's folder, or another one to write to.
        checkpoint: identity of the weights; samples of other weights are not used.
        shipped: folder of samples that are only read.
    """

    def __init__(self, space: SearchSpace, folder: Path, checkpoint: str, shipped: Path | None = None) -> None:
        self.space, self.folder, self._checkpoint = space, folder, checkpoint
        self.table = SubnetTable(space)
        self.top1: dict[str, float] = {}
        for source in dict.fromkeys((shipped, folder)):
            if source is not None:
                self._read(source / FILE_NAME)

    def _read(self, path: Path) -> None:
        for number, line in enumerate(read_jsonl(path, "accuracy samples"), 1):
            try:
                if line["checkpoint"] == self._checkpoint:
                    self.top1[line["subnet"]] = float(line["validation_top1"])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path}, line {number}, is not an accuracy sample", "remove that line") from error

    def evaluate(self, configs: Sequence[SubnetConfig], evaluate: Evaluate) -> list[float]:
        """Accuracies in the given order; only subnets not known yet are evaluated, each appended at once."""
        new = [config for config in configs if config.key not in self.top1]
        if new:
            with Task("evaluating subnets", len(new)) as task:
                for config in new:
                    top1 = evaluate(config)
                    line = {"subnet": config.key, "validation_top1": top1, "checkpoint": self._checkpoint}
                    append_jsonl(self.folder / FILE_NAME, [line])
                    self.top1[config.key] = top1
                    task.advance(note=f"{top1:.2%}")
        return [self.top1[config.key] for config in configs]

    def sample(self, count: int, evaluate: Evaluate, seed: int = 0) -> None:
        """Evaluate random subnets until ``count`` are known."""
        rng = np.random.default_rng(seed)
        configs = [self.space.largest, self.space.smallest, *self.space.sample_configs(rng, count)]
        missing = max(0, count - len(self.top1))
        self.evaluate([config for config in configs if config.key not in self.top1][:missing], evaluate)

    def predictor(self) -> AccuracyPredictor:
        """The predictor fitted to everything known."""
        configs = [SubnetConfig.parse(key) for key in self.top1]
        return AccuracyPredictor.fit(self.table, configs, np.asarray(list(self.top1.values())))

    def report(self, seed: int = 0) -> dict[str, Any]:
        """Quality on samples that a fit has not seen: the mean over a cross-validation in quarters.

        Every sample is held out once. Fewer than ``4 * FEWEST_HELD_OUT`` samples are held out in larger shares.
        ``samples`` and ``held_out`` are those of one fit.
        """
        keys = [str(key) for key in np.random.default_rng(seed).permutation(sorted(self.top1))]
        rows = np.arange(len(keys))
        folds = np.array_split(rows, max(2, min(FOLDS, len(keys) // FEWEST_HELD_OUT)))
        qualities = []
        for held_out in folds:
            fitted = AccuracyPredictor.fit(self.table, *self._known(keys, np.setdiff1d(rows, held_out)))
            qualities.append(fitted.evaluate(*self._known(keys, held_out)))
        return {
            "samples": len(keys) - len(folds[0]),
            "held_out": len(folds[0]),
            "folds": len(folds),
            **{name: float(np.mean([quality[name] for quality in qualities])) for name in qualities[0]},
            "kendall_tau_std": float(np.std([quality["kendall_tau"] for quality in qualities], ddof=1)),
        }

    def _known(self, keys: Sequence[str], rows: NDArray[np.intp]) -> tuple[list[SubnetConfig], Floats]:
        chosen = [keys[row] for row in rows]
        return [SubnetConfig.parse(key) for key in chosen], np.asarray([self.top1[key] for key in chosen])
