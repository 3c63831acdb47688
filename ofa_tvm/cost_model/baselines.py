"""The latency model compared with baselines, at equal samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.cost_model.latency_model import BlockTimes, LatencyModel, score
from ofa_tvm.regression.ridge import Ridge
from ofa_tvm.regression.stacked_regressor import fit_trees
from ofa_tvm.spaces import Genomes, SubnetConfig
from ofa_tvm.spaces.subnet_features import choice_counts, ordinal_choices, relative_resolution
from ofa_tvm.spaces.subnet_table import KINDS, QUANTITIES, SubnetTable
from ofa_tvm.support.files import Record

Floats = NDArray[np.float64]
Baseline = Callable[[SubnetTable, Genomes, Floats, Genomes], Floats]
"""From a table, fitted genomes, their latencies in ms and other genomes to the latencies of those in ms."""


def _one_factor(fitted: Floats, latency_ms: Floats, asked: Floats) -> Floats:
    ratio = fitted / latency_ms
    factor = float(ratio.sum() / (ratio @ ratio))
    return asked * factor


def table_alone(table: SubnetTable, fitted: Genomes, latency_ms: Floats, asked: Genomes) -> Floats:
    """The sum of kernel times, times one factor."""
    first, second = (table.quantities(genomes)[:, : len(KINDS)].sum(axis=1) for genomes in (fitted, asked))
    return _one_factor(first, latency_ms, second)


def flops(table: SubnetTable, fitted: Genomes, latency_ms: Floats, asked: Genomes) -> Floats:
    """MACs times one factor."""
    column = QUANTITIES.index("macs")
    return _one_factor(table.quantities(fitted)[:, column], latency_ms, table.quantities(asked)[:, column])


def additive(table: SubnetTable, fitted: Genomes, latency_ms: Floats, asked: Genomes) -> Floats:
    """Ridge on the choices times the square of the resolution, those after the first of a stage counted together."""

    def columns(genomes: Genomes) -> Floats:
        area = relative_resolution(table.space, genomes)[:, None] ** 2
        return np.concatenate([np.ones_like(area), area, choice_counts(table.space, genomes) * area], axis=1)

    ridge, _ = Ridge.fit(columns(fitted) / latency_ms[:, None], np.ones(len(fitted)), free=2)
    return np.clip(ridge.predict(columns(asked)), 0.25 * latency_ms.min(), None)


def xgboost_raw(table: SubnetTable, fitted: Genomes, latency_ms: Floats, asked: Genomes) -> Floats:
    """XGBoost from resolution and choices to the logarithm of the latency."""

    def columns(genomes: Genomes) -> NDArray[np.float32]:
        return np.concatenate([genomes[:, :1], ordinal_choices(table.space, genomes)], axis=1, dtype=np.float32)

    trees = fit_trees(columns(fitted), np.log(latency_ms), seed=0, rounds=500)
    return np.exp(np.asarray(trees.inplace_predict(columns(asked)), dtype=np.float64))


BASELINES: dict[str, Baseline] = {
    "table_alone": table_alone,
    "additive": additive,
    "xgboost_raw": xgboost_raw,
    "flops": flops,
}
OURS = "model"


def held_out(
    table: SubnetTable, samples: LatencyData, asked: LatencyData, seed: int = 0, other_device: BlockTimes | None = None
) -> dict[str, dict[str, float]]:
    """Quality on ``asked`` of the latency model and the baselines, all fitted to ``samples``.

    Args:
        table: quantities of the space; without kernel times the table alone is left out.
        samples: measured subnets to fit.
        asked: measured subnets to predict.
        seed: of the trees.
        other_device: see ``LatencyModel.fit``.

    Returns:
        What ``score`` gives by method; for the latency model, ``interval_coverage`` too.

    Raises:
        UserError: too few samples to fit.
    """
    model = LatencyModel.fit(table, samples.configs, samples.latency_ms, seed, other_device)
    fitted, genomes = table.space.genomes(list(samples.configs)), table.space.genomes(list(asked.configs))
    methods = {OURS: model.evaluate(asked.configs, asked.latency_ms)}
    for name, method in _baselines(table).items():
        methods[name] = score(method(table, fitted, samples.latency_ms, genomes), asked.latency_ms)
    return methods


def _baselines(table: SubnetTable) -> dict[str, Baseline]:
    return {name: method for name, method in BASELINES.items() if table.has_costs or name != "table_alone"}


def compare(
    table: SubnetTable, configs: Sequence[SubnetConfig], latency_ms: Floats, folds: int = 5, seed: int = 0
) -> Record:
    """Cross-validate the latency model and the baselines on the same folds.

    Args:
        table: quantities of the space; without kernel times the table alone is left out.
        configs: n measured subnets.
        latency_ms: their latencies, shape (n,).
        folds: each is predicted from the others.
        seed: of the folds and the trees.

    Returns:
        Values for JSON: ``samples``, ``folds`` and, by method, what ``score`` gives over all held-out subnets
        (for the latency model, ``interval_coverage`` too).

    Raises:
        UserError: too few samples to fit.
    """
    latency_ms = np.asarray(latency_ms, dtype=np.float64)
    genomes = table.space.genomes(list(configs))
    baselines = _baselines(table)
    predicted = {name: np.empty(len(latency_ms)) for name in (OURS, *baselines)}
    covered = np.empty(len(latency_ms), dtype=bool)
    order = np.random.default_rng(seed).permutation(len(latency_ms))
    for held_out in np.array_split(order, folds):
        kept = np.setdiff1d(order, held_out)
        model = LatencyModel.fit(table, [configs[index] for index in kept], latency_ms[kept], seed)
        mean_ms, low_ms, high_ms = model.predict(genomes[held_out])
        predicted[OURS][held_out] = mean_ms
        covered[held_out] = (low_ms <= latency_ms[held_out]) & (latency_ms[held_out] <= high_ms)
        for name, method in baselines.items():
            predicted[name][held_out] = method(table, genomes[kept], latency_ms[kept], genomes[held_out])
    methods = {name: score(values, latency_ms) for name, values in predicted.items()}
    methods[OURS]["interval_coverage"] = float(covered.mean())
    return {"samples": len(latency_ms), "folds": folds, "methods": methods}
