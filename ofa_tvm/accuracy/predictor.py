"""AccuracyPredictor: top-1 accuracy of any subnet, learned from a few hundred evaluated ones."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter

from ofa_tvm.accuracy.choice_steps import choice_steps, step_groups
from ofa_tvm.regression.metrics import conformal_quantile, kendall_tau, spearman
from ofa_tvm.regression.quadratic_process import QuadraticModel
from ofa_tvm.regression.stacked_regressor import COVERAGE, MIN_SAMPLES
from ofa_tvm.spaces import Genomes, SubnetConfig
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.sealed import read_sealed, write_sealed
from ofa_tvm.support.typed import Finite, NotNegative, validated

Floats = NDArray[np.float64]

STEM = "accuracy_predictor"
SCHEMA_VERSION = 3
_CHUNK = 8192


@dataclass(frozen=True)
class PredictorQuality:
    """Quality of a predictor on subnets that it was not fitted to: means over a cross-validation.

    Args:
        samples: samples of one fit.
        held_out: held-out subnets that it predicts.
        folds: of the cross-validation.
        kendall_tau: rank correlation, and ``kendall_tau_std`` its standard deviation over the folds.
        spearman: likewise, by Spearman.
        mae: mean absolute error, as a fraction.
        interval_coverage: share of accuracies in their 90 % interval.
    """

    samples: int
    held_out: int
    folds: int
    kendall_tau: float
    spearman: float
    mae: float
    interval_coverage: float
    kendall_tau_std: float


class _Content(BaseModel):
    schema_version: int = Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)
    space: Record
    report: Record
    noise: NotNegative
    matrix: list[list[Finite]]
    scores: Annotated[list[NotNegative], Field(min_length=1)]


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True)
class AccuracyPredictor:
    """A fitted accuracy predictor of one supernet.

    Args:
        table: of the space; kernel times are not needed.
        model: what was learned from evaluated subnets.
        scores: absolute errors on the fitted subnets, each predicted by the others, shape (samples,).
    """

    table: SubnetTable
    model: QuadraticModel
    scores: Floats

    @classmethod
    def fit(cls, table: SubnetTable, configs: Sequence[SubnetConfig], top1: Floats) -> AccuracyPredictor:
        """Learn from evaluated subnets.

        Args:
            table: of the space.
            configs: n evaluated subnets.
            top1: their top-1 accuracies as fractions, shape (n,).

        Raises:
            UserError: too few samples, or accuracies outside 0 to 1.
        """
        top1 = np.asarray(top1, dtype=np.float64)
        count = len(top1)
        if count < MIN_SAMPLES:
            raise UserError(f"{count} samples are too few to fit a model", f"evaluate at least {MIN_SAMPLES} subnets")
        if not ((top1 >= 0) & (top1 <= 1)).all():
            raise UserError("accuracies must be fractions from 0 to 1", "divide percentages by 100")
        columns, groups = choice_steps(table.space, table.space.genomes(list(configs))), step_groups(table.space)
        model = QuadraticModel.fit(columns, groups, top1)
        return cls(table, model, np.abs(model.residuals))

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats, Floats]:
        """Predicted top-1 fraction and the low and high end of its 90 % interval, each of shape (n,).

        The prediction is not clipped, so that it still orders the best and the worst; the interval is. It is
        cross-conformal (Vovk, Annals of Mathematics and AI 2015).
        """
        parts = (genomes[start : start + _CHUNK] for start in range(0, max(len(genomes), 1), _CHUNK))
        mean = np.concatenate([self.model.predict(choice_steps(self.table.space, part)) for part in parts])
        return mean, np.clip(mean - self._margin, 0, 1), np.clip(mean + self._margin, 0, 1)

    @cached_property
    def _margin(self) -> float:
        return conformal_quantile(self.scores, COVERAGE)

    @property
    def out_of_fold_mae(self) -> float:
        """Mean absolute error on the fitted subnets when each is left out of the fit, as a fraction."""
        return float(self.scores.mean())

    def evaluate(self, configs: Sequence[SubnetConfig], top1: Floats) -> dict[str, float]:
        """Quality on subnets that were not fitted: rank correlations, mean absolute error, interval coverage."""
        mean, low, high = self.predict(self.table.space.genomes(list(configs)))
        return {
            "kendall_tau": kendall_tau(mean, top1),
            "spearman": spearman(mean, top1),
            "mae": float(np.abs(mean - top1).mean()),
            "interval_coverage": float(((low <= top1) & (top1 <= high)).mean()),
        }

    def save(self, folder: Path, report: PredictorQuality | None = None) -> None:
        """Write ``accuracy_predictor.report.json``; ``report`` is kept for readers."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "space": self.table.space.description(),
            "report": {} if report is None else asdict(report),
            "noise": self.model.noise,
            "matrix": self.model.matrix.tolist(),
            "scores": self.scores.tolist(),
        }
        write_sealed(folder / f"{STEM}.report.json", content)

    @classmethod
    def load(cls, folder: Path, table: SubnetTable) -> AccuracyPredictor:
        """Read a saved predictor.

        Raises:
            UserError: the file is missing or damaged, or of another schema or space.
        """
        path = folder / f"{STEM}.report.json"
        again = f"run its training's command again, or do without predicted accuracies: rm {shlex.quote(str(path))}"
        try:
            content = validated(_CONTENT, read_sealed(path, "accuracy predictor", again))
        except ValueError as error:
            said = f"accuracy predictor {path} is damaged, or of another version: {error}"
            raise UserError(said, again) from error
        if content.space != table.space.description():
            raise UserError(f"{path} was fitted on another space than {table.space.name} as it is now", again)
        size = 1 + len(step_groups(table.space))
        if {len(content.matrix), *map(len, content.matrix)} != {size}:
            raise UserError(f"{path} is damaged: matrix must hold {size} x {size} numbers", again)
        return cls(table, QuadraticModel(np.asarray(content.matrix), content.noise), np.asarray(content.scores))
