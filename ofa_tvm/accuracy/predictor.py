"""AccuracyPredictor: top-1 accuracy of any subnet, learned from a few hundred evaluated ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.errors import UserError
from ofa_tvm.model_files import load_model, save_model
from ofa_tvm.spaces import Genomes, SubnetConfig
from ofa_tvm.stacked import Features, StackedRegressor
from ofa_tvm.statistics import kendall_tau, spearman
from ofa_tvm.subnet_features import ordinal_choices, relative_resolution, stage_sums
from ofa_tvm.subnet_table import QUANTITIES, SubnetTable

Floats = NDArray[np.float64]

STEM = "accuracy_predictor"
_CHUNK = 8192


def accuracy_features(table: SubnetTable, genomes: Genomes) -> Features:
    """Features of subnets.

    Linear: intercept and logarithm of MACs; penalised, logarithms of parameter and activation bytes, the resolution
    and the stage sums with their square roots, because more of anything helps less and less.
    """
    size = np.log(table.quantities(genomes)[:, QUANTITIES.index("macs") :])
    resolution = relative_resolution(table.space, genomes)[:, None]
    sums = stage_sums(table.space, genomes)
    linear = [np.ones_like(resolution), size, resolution, resolution**2, sums, np.sqrt(sums)]
    trees = [size, resolution, sums, ordinal_choices(table.space, genomes)]
    return Features(
        np.concatenate(linear, axis=1),
        [number for number, part in enumerate(linear) for _ in range(part.shape[1])],
        np.concatenate(trees, axis=1, dtype=np.float32, casting="same_kind"),
    )


@dataclass(frozen=True)
class AccuracyPredictor:
    """A fitted accuracy predictor of one supernet.

    Args:
        table: quantities of the space; kernel times are not needed.
        model: what was learned from evaluated subnets.
    """

    table: SubnetTable
    model: StackedRegressor

    @classmethod
    def fit(cls, table: SubnetTable, configs: Sequence[SubnetConfig], top1: Floats, seed: int = 0) -> AccuracyPredictor:
        """Learn from evaluated subnets.

        Args:
            table: quantities of the space.
            configs: n evaluated subnets.
            top1: their top-1 accuracies as fractions, shape (n,).
            seed: of the folds and the trees.

        Raises:
            UserError: too few samples, or accuracies outside 0 to 1.
        """
        top1 = np.asarray(top1, dtype=np.float64)
        if not ((top1 >= 0) & (top1 <= 1)).all():
            raise UserError("accuracies must be fractions from 0 to 1", "divide percentages by 100")
        features = accuracy_features(table, table.space.genomes(list(configs)))
        return cls(table, StackedRegressor.fit(features, top1, relative=False, seed=seed))

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats, Floats]:
        """Predicted top-1 fraction and the low and high end of its 90 % interval, each of shape (n,).

        The prediction is not clipped, so that it still orders the best and the worst; the interval is.
        """
        starts = range(0, max(len(genomes), 1), _CHUNK)
        parts = [self.model.predict(accuracy_features(self.table, genomes[start : start + _CHUNK])) for start in starts]
        mean = np.concatenate(parts)
        low, high = self.model.interval(mean)
        return mean, np.clip(low, 0, 1), np.clip(high, 0, 1)

    @property
    def out_of_fold_mae(self) -> float:
        """Mean absolute error on the fitted subnets when each is left out of the fit, as a fraction."""
        return float(self.model.scores.mean())

    def evaluate(self, configs: Sequence[SubnetConfig], top1: Floats) -> dict[str, float]:
        """Quality on subnets that were not fitted: rank correlations, mean absolute error, interval coverage."""
        mean, low, high = self.predict(self.table.space.genomes(list(configs)))
        return {
            "kendall_tau": kendall_tau(mean, top1),
            "spearman": spearman(mean, top1),
            "mae": float(np.abs(mean - top1).mean()),
            "interval_coverage": float(((low <= top1) & (top1 <= high)).mean()),
        }

    def save(self, folder: Path, report: dict[str, Any] | None = None) -> None:
        """Write ``accuracy_predictor.ubj`` and ``accuracy_predictor.report.json``."""
        save_model(folder, STEM, self.model, space=self.table.space, table_digest="", report=report or {})

    @classmethod
    def load(cls, folder: Path, table: SubnetTable) -> AccuracyPredictor:
        """Read a saved predictor.

        Raises:
            UserError: files are missing or damaged, or of another schema or space.
        """
        model, _ = load_model(folder, STEM, space=table.space, table_digest="")
        return cls(table, model)
