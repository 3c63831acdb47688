"""LatencyModel: how long any subnet of a space takes on one device, learned from few measured subnets.

The sum of its tuned kernels' times is the first guess; what it misses (caches, launches, threads) is learned.
Batch and threads are fixed for a device's measurements, so they belong to the records and not to the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.model_files import load_model, save_model
from ofa_tvm.spaces import Genomes, SubnetConfig
from ofa_tvm.stacked import Features, StackedRegressor
from ofa_tvm.statistics import mape, relative_errors, spearman
from ofa_tvm.subnet_features import ordinal_choices, relative_resolution, stage_sums
from ofa_tvm.subnet_table import KINDS, SubnetTable

Floats = NDArray[np.float64]

STEM = "cost_model"
_CHUNK = 8192
"""Rows of one step, so that its arrays stay in the cache."""


def latency_features(table: SubnetTable, genomes: Genomes) -> Features:
    """Features of subnets.

    Linear: intercept, sum of kernel times; penalised, the other quantities of the table, the resolution and the stage
    sums. Trees: the quantities, the resolution and the choices.
    """
    quantities = table.quantities(genomes)
    times = quantities[:, : len(KINDS)]
    total = times.sum(axis=1, keepdims=True)
    area = relative_resolution(table.space, genomes)[:, None] ** 2
    sums = stage_sums(table.space, genomes)
    physical = quantities if table.has_costs else quantities[:, len(KINDS) :]
    free = [np.ones_like(total), total] if table.has_costs else [np.ones_like(total), area, physical]
    penalised = [area, physical, sums * area, sums] if table.has_costs else [sums * area, sums]
    columns = [total, physical, area, ordinal_choices(table.space, genomes)]
    return Features(
        np.concatenate([*free, *penalised], axis=1),
        np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind"),
        sum(column.shape[1] for column in free),
    )


@dataclass(frozen=True)
class LatencyModel:
    """A fitted latency model of one space on one device under one set of conditions.

    Args:
        table: quantities of the space; with kernel times where kernels were tuned.
        model: what was learned from measured subnets.
    """

    table: SubnetTable
    model: StackedRegressor

    @classmethod
    def fit(
        cls, table: SubnetTable, configs: Sequence[SubnetConfig], latency_ms: Floats, seed: int = 0
    ) -> LatencyModel:
        """Learn from measured subnets.

        Args:
            table: quantities of the space.
            configs: n measured subnets.
            latency_ms: their measured latencies, shape (n,).
            seed: of the folds and the trees.

        Raises:
            UserError: too few samples, or values that are not positive numbers.
        """
        features = latency_features(table, table.space.genomes(list(configs)))
        return cls(table, StackedRegressor.fit(features, latency_ms, relative=True, seed=seed))

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats, Floats]:
        """Predicted latency and the low and high end of its 90 % interval in ms, each of shape (n,)."""
        starts = range(0, max(len(genomes), 1), _CHUNK)
        parts = [self.model.predict(latency_features(self.table, genomes[start : start + _CHUNK])) for start in starts]
        mean_ms = np.concatenate(parts)
        low_ms, high_ms = self.model.interval(mean_ms)
        return mean_ms, low_ms, high_ms

    def evaluate(self, configs: Sequence[SubnetConfig], latency_ms: Floats) -> dict[str, float]:
        """Quality on subnets that were not fitted: errors and coverage as fractions, and the rank correlation."""
        mean_ms, low_ms, high_ms = self.predict(self.table.space.genomes(list(configs)))
        covered = (low_ms <= latency_ms) & (latency_ms <= high_ms)
        return {**score(mean_ms, latency_ms), "interval_coverage": float(covered.mean())}

    def save(self, folder: Path, report: dict[str, Any] | None = None) -> None:
        """Write ``cost_model.ubj`` and ``cost_model.report.json``; ``report`` is kept for readers."""
        save_model(
            folder, STEM, self.model, space=self.table.space, table_digest=self.table.digest, report=report or {}
        )

    @classmethod
    def load(cls, folder: Path, table: SubnetTable) -> LatencyModel:
        """Read a saved model.

        Raises:
            UserError: files are missing or damaged, or of another schema, space or table.
        """
        model, _ = load_model(folder, STEM, space=table.space, table_digest=table.digest)
        return cls(table, model)


def score(predicted_ms: Floats, latency_ms: Floats) -> dict[str, float]:
    """Agreement of predicted with measured latencies; errors are fractions."""
    errors = relative_errors(predicted_ms, latency_ms)
    return {
        "mape": mape(predicted_ms, latency_ms),
        "within_5pct": float((errors <= 0.05).mean()),
        "within_10pct": float((errors <= 0.10).mean()),
        "spearman": spearman(predicted_ms, latency_ms),
    }
