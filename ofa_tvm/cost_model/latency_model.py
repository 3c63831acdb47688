"""LatencyModel: how long any subnet of a space takes on one device, learned from few measured subnets.

Latency adds up over blocks, so a linear base on ``BlockFeatures`` gives most of it: the times of tuned kernels, where
there are any, corrected by where they run. Boosted trees learn what does not add up. Batch and threads are
fixed for a device's measurements, so they belong to the records and not to the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.block_features import BlockFeatures
from ofa_tvm.regression.metrics import mape, relative_errors, spearman
from ofa_tvm.regression.model_files import AGAIN, load_model, save_model
from ofa_tvm.regression.stacked_regressor import Features, StackedRegressor
from ofa_tvm.spaces import Genomes, SubnetConfig
from ofa_tvm.spaces.block_table import BlockTable
from ofa_tvm.spaces.subnet_features import ordinal_choices, relative_resolution
from ofa_tvm.spaces.subnet_table import QUANTITIES, SubnetTable
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record

Floats = NDArray[np.float64]
BlockTimes = tuple[Floats, Floats]
"""Times in ms: (resolutions,) of the layers outside the blocks, (resolutions, blocks, 1 + choices) of the blocks."""

STEM = "cost_model"
_CHUNK = 8192
"""Rows of one step, so that its arrays stay in the cache."""


@dataclass(frozen=True)
class LatencyModel:
    """A fitted latency model of one space on one device under one set of conditions.

    Args:
        table: quantities of the space; with kernel times where kernels were tuned.
        features: columns of the base.
        model: what was learned from measured subnets.
    """

    table: SubnetTable
    features: BlockFeatures
    model: StackedRegressor

    @classmethod
    def fit(
        cls,
        table: SubnetTable,
        configs: Sequence[SubnetConfig],
        latency_ms: Floats,
        seed: int = 0,
        other_device: BlockTimes | None = None,
    ) -> LatencyModel:
        """Learn from measured subnets.

        Args:
            table: quantities of the space.
            configs: n measured subnets.
            latency_ms: their measured latencies, shape (n,).
            seed: of the folds and the trees.
            other_device: ``block_times`` of a model of another device, to start from.

        Raises:
            UserError: too few samples, or values that are not positive numbers.
        """
        priors = [*table.kernel_times, *([other_device] if other_device else [])]
        features = BlockFeatures(table.space, priors)
        genomes = table.space.genomes(list(configs))
        samples = Features(features.rows(genomes), features.groups, tree_columns(table, genomes))
        return cls(table, features, StackedRegressor.fit(samples, latency_ms, seed))

    @cached_property
    def block_times(self) -> BlockTimes:
        """The base's time of each part of a subnet; their sum is its prediction before the trees correct it."""
        return self.features.table(self.model.coefficients)

    @cached_property
    def _base(self) -> BlockTable:
        return BlockTable(self.table.space, *self.block_times)

    def fastest(self, resolutions: Sequence[int] | None = None) -> SubnetConfig:
        """The subnet that the base calls the fastest, of all or of these resolutions: exact, as its times add up."""
        space = self.table.space
        fixed, blocks = self.block_times
        best_ms, best = np.inf, space.smallest
        for resolution in space.choose_resolutions(resolutions):
            row = space.resolutions.index(resolution)
            total_ms, stages = float(fixed[row]), []
            for number, stage in enumerate(np.split(blocks[row, :, 1:], space.stages)):
                by_kernel = stage.reshape(len(stage), -1, len(space.expand_choices))
                few = by_kernel[:, : len(space.kernels_of(number)), : len(space.expands_of(number))]
                allowed = few.reshape(len(stage), -1)
                chosen = allowed.argmin(axis=1)
                sums = allowed.min(axis=1).cumsum()
                depth = min(space.depths_of(number), key=lambda depth: float(sums[depth - 1]))
                total_ms += float(sums[depth - 1])
                pairs = (divmod(int(choice), len(space.expands_of(number))) for choice in chosen[:depth])
                stages.append(tuple((space.kernel_choices[k], space.expand_choices[e]) for k, e in pairs))
            if total_ms < best_ms:
                best_ms, best = total_ms, SubnetConfig(resolution, tuple(stages))
        return best

    def screen(self, genomes: Genomes) -> Floats:
        """The base's prediction in ms, shape (n,): nearly as good, at more than a million subnets a second."""
        return np.maximum(self._base.sum(genomes), self.model.floor)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats, Floats]:
        """Predicted latency and the low and high end of its 90 % interval in ms, each of shape (n,)."""
        mean_ms = self.mean_ms(genomes)
        low_ms, high_ms = self.model.interval(mean_ms)
        return mean_ms, low_ms, high_ms

    def mean_ms(self, genomes: Genomes) -> Floats:
        """Predicted latency in ms, shape (n,)."""
        starts = range(0, max(len(genomes), 1), _CHUNK)
        return np.concatenate([self._part(genomes[start : start + _CHUNK]) for start in starts])

    def _part(self, genomes: Genomes) -> Floats:
        return self.model.corrected(self._base.sum(genomes), lambda: tree_columns(self.table, genomes))

    def evaluate(self, configs: Sequence[SubnetConfig], latency_ms: Floats) -> dict[str, float]:
        """Quality on subnets that were not fitted: errors and coverage as fractions, and the rank correlation."""
        mean_ms, low_ms, high_ms = self.predict(self.table.space.genomes(list(configs)))
        covered = (low_ms <= latency_ms) & (latency_ms <= high_ms)
        return {**score(mean_ms, latency_ms), "interval_coverage": float(covered.mean())}

    def save(self, folder: Path, report: Record | None = None) -> None:
        """Write ``cost_model.ubj`` and ``cost_model.report.json``; ``report`` is kept for readers."""
        save_model(
            folder,
            STEM,
            self.model,
            space=self.table.space.description(),
            table_digest=self.table.digest,
            report=report or {},
        )

    @classmethod
    def load(cls, folder: Path, table: SubnetTable, again: str = AGAIN) -> LatencyModel:
        """Read a saved model (one that was fitted without another device's times).

        Args:
            folder: where it was saved.
            table: of its space, with the kernel times of now.
            again: what fits it again, where it cannot be used.

        Raises:
            UserError: files are missing or damaged, or of another schema, space or table.
        """
        space = table.space.description()
        model, _ = load_model(folder, STEM, space=space, table_digest=table.digest, again=again)
        features = BlockFeatures(table.space, table.kernel_times)
        if len(model.coefficients) != len(features.groups):
            raise UserError(f"the model in {folder} has other columns than {table.space.name} as it is now", again)
        return cls(table, features, model)


def tree_columns(table: SubnetTable, genomes: Genomes) -> NDArray[np.float32]:
    """Columns of subnets for the trees, shape (n, columns)."""
    area = relative_resolution(table.space, genomes)[:, None] ** 2
    columns = (table.quantities(genomes), area, ordinal_choices(table.space, genomes))
    return np.concatenate([column.astype(np.float32) for column in columns], axis=1)


def tree_names(table: SubnetTable) -> list[str]:
    """Names of ``tree_columns``."""
    blocks = range(1, 1 + table.space.blocks)
    choices = [f"{choice} of block {block}" for choice in ("kernel size", "expand ratio") for block in blocks]
    return [*QUANTITIES, "area", *choices]


def score(predicted_ms: Floats, latency_ms: Floats) -> dict[str, float]:
    """Agreement of predicted with measured latencies; errors are fractions."""
    errors = relative_errors(predicted_ms, latency_ms)
    return {
        "mape": mape(predicted_ms, latency_ms),
        "within_5pct": float((errors <= 0.05).mean()),
        "within_10pct": float((errors <= 0.10).mean()),
        "spearman": spearman(predicted_ms, latency_ms),
    }
