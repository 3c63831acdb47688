"""Which features a latency model's predictions rest on: Shapley values of its two parts, in shares of the latency."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from ofa_tvm.cost_model.latency_model import LatencyModel, tree_columns, tree_names
from ofa_tvm.spaces import Genomes

Floats = NDArray[np.float64]


def importance(model: LatencyModel, genomes: Genomes) -> dict[str, dict[str, float]]:
    """Mean absolute contributions to the predictions of subnets, as fractions of their latency, largest first.

    In a linear model with columns taken as independent, the Shapley value of a column is its coefficient times its
    distance from the mean; those of the trees are exact (Lundberg et al., Nature Machine Intelligence 2020), as XGBoost
    calculates them.

    Args:
        model: the latency model.
        genomes: subnets to explain, shape (n, genes).

    Returns:
        ``base`` by group of columns and ``trees`` by column.
    """
    rows = model.features.rows(genomes)
    contributions = (rows - rows.mean(axis=0)) * model.model.coefficients
    groups = np.asarray(model.features.groups)
    mean_ms = model.mean_ms(genomes)
    base = {
        name: float(np.abs(contributions[:, groups == number].sum(axis=1) / mean_ms).mean())
        for number, name in enumerate(model.features.names)
    }
    columns = xgboost.DMatrix(tree_columns(model.table, genomes))
    shares = model.model.tree_weight * np.abs(model.model.booster.predict(columns, pred_contribs=True)[:, :-1])
    trees = dict(zip(tree_names(model.table), shares.mean(axis=0).tolist(), strict=True))
    return {"base": _largest_first(base), "trees": _largest_first(trees)}


def _largest_first(values: dict[str, float]) -> dict[str, float]:
    return dict(sorted(values.items(), key=lambda item: -item[1]))
