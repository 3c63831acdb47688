"""StackedRegressor: a linear base, boosted trees on its residuals, and a conformal interval; for tens of samples.

The base extrapolates and needs few samples, the trees find what is not linear. The trees learn leave-one-out
residuals (Wolpert, Neural Networks 1992: stacking on out-of-fold predictions) and get a weight between 0 and 1 that
fits out of fold, so that they do no harm where they have nothing to add.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xgboost
from numpy.typing import NDArray

from ofa_tvm.regression.grouped_ridge import GroupedRidge
from ofa_tvm.regression.metrics import conformal_quantile
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record

Floats = NDArray[np.float64]

COVERAGE = 0.9
MIN_SAMPLES = 10
_FOLDS = 10
_ROUNDS = 200
_SHARES = np.linspace(0, 1, 11)
_TREES: Record = {
    "max_depth": 3,
    "eta": 0.05,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "min_child_weight": 3,
    "tree_method": "hist",
    "nthread": 1,  # small data, and the same model on every machine
    "verbosity": 0,
}


@dataclass(frozen=True)
class Features:
    """What the two parts see of the same subnets.

    Args:
        linear: columns of the base, shape (n, columns).
        groups: the group of each of these columns, see ``GroupedRidge``.
        trees: columns of the trees, float32, shape (n, other columns).
    """

    linear: Floats
    groups: Sequence[int]
    trees: NDArray[np.float32]

    def __getitem__(self, rows: NDArray[np.intp]) -> Features:
        return Features(self.linear[rows], self.groups, self.trees[rows])


@dataclass(frozen=True)
class StackedRegressor:
    """A fitted model.

    Args:
        coefficients: of the base, shape (columns,).
        booster: the trees, fitted to its residuals.
        tree_weight: share of the trees' answer that is used, 0 to 1.
        floor: smallest answer of the base.
        scores: absolute out-of-fold errors of the logarithm, shape (samples,).
    """

    coefficients: Floats
    booster: xgboost.Booster
    tree_weight: float
    floor: float
    scores: Floats

    @classmethod
    def fit(cls, features: Features, target: Floats, seed: int = 0) -> StackedRegressor:
        """Fit both parts on all samples, and again on each of ten folds for the weight and the interval.

        Args:
            features: of n subnets.
            target: shape (n,), positive.
            seed: of the folds and the trees.

        Raises:
            UserError: fewer than ``MIN_SAMPLES`` samples, or values that cannot be used.
        """
        target = np.asarray(target, dtype=np.float64)
        count = len(target)
        if count < MIN_SAMPLES:
            raise UserError(f"{count} samples are too few to fit a model", f"measure at least {MIN_SAMPLES} subnets")
        if not np.isfinite(target).all() or target.min() <= 0:
            raise UserError("samples hold values that are not finite or not positive", "leave failed runs out")
        base, floor, booster = _fit_parts(features, target, seed)
        order = np.random.default_rng(seed).permutation(count)
        left_over, from_trees = np.empty(count), np.empty(count)
        for held_out in np.array_split(order, min(_FOLDS, count)):
            kept = np.setdiff1d(order, held_out)
            part, part_floor, trees = _fit_parts(features[kept], target[kept], seed, base.logarithms)
            answers = np.maximum(part.predict(features.linear[held_out]), part_floor)
            left_over[held_out] = np.log(target[held_out] / answers)
            from_trees[held_out] = trees.inplace_predict(features.trees[held_out])
        errors = np.abs(left_over - _SHARES[:, None] * from_trees)
        best = int(errors.mean(axis=1).argmin())
        return cls(base.coefficients, booster, float(_SHARES[best]), floor, errors[best])

    def predict(self, features: Features) -> Floats:
        """Values, shape (n,)."""
        return self.corrected(features.linear @ self.coefficients, lambda: features.trees)

    def corrected(self, base: Floats, trees: Callable[[], NDArray[np.float32]]) -> Floats:
        """Values, shape (n,), from the answers of the base and, where the trees have a weight, their columns."""
        base = np.maximum(base, self.floor)
        if self.tree_weight == 0:
            return base
        correction: Floats = self.tree_weight * self.booster.inplace_predict(trees(), validate_features=False)
        return np.multiply(base, np.exp(correction))

    def interval(self, values: Floats, coverage: float = COVERAGE) -> tuple[Floats, Floats]:
        """Low and high ends around predicted values that hold the truth with probability ``coverage``.

        Cross-conformal (Vovk, Annals of Mathematics and AI 2015): the finite-sample quantile of the out-of-fold
        errors of all samples, so that none is set aside for calibration.
        """
        margin = self._margin if coverage == COVERAGE else conformal_quantile(self.scores, coverage)
        return values * np.exp(-margin), values * np.exp(margin)

    @cached_property
    def _margin(self) -> float:
        return conformal_quantile(self.scores, COVERAGE)

    def to_json(self) -> Record:
        """Everything but the trees, as values that JSON keeps exactly."""
        return {
            "coefficients": self.coefficients.tolist(),
            "tree_weight": self.tree_weight,
            "floor": self.floor,
            "scores": self.scores.tolist(),
        }

    @classmethod
    def from_json(cls, value: Record, booster: xgboost.Booster) -> StackedRegressor:
        """Undo ``to_json``."""
        coefficients, scores = (np.asarray(value[name], np.float64) for name in ("coefficients", "scores"))
        return cls(coefficients, booster, value["tree_weight"], value["floor"], scores)


def fit_trees(features: NDArray[np.float32], target: Floats, seed: int, rounds: int = _ROUNDS) -> xgboost.Booster:
    """Boosted trees (Chen and Guestrin, KDD 2016) with settings for small data."""
    return xgboost.train({**_TREES, "seed": seed}, xgboost.DMatrix(features, target), num_boost_round=rounds)


def _fit_parts(
    features: Features, target: Floats, seed: int, start: Floats | None = None
) -> tuple[GroupedRidge, float, xgboost.Booster]:
    # Errors count in proportion to the value, so the base fits what divides by it.
    base = GroupedRidge.fit(features.linear / target[:, None], np.ones(len(target)), features.groups, start)
    floor = 0.25 * float(target.min())
    unseen = np.maximum(base.unseen * target, floor)
    return base, floor, fit_trees(features.trees, np.log(target / unseen), seed)
