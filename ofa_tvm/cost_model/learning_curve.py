"""How good latency models are at fewer samples than there are, and whether more are worth measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ofa_tvm.cost_model.baselines import OURS, held_out
from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.spaces.subnet_table import SubnetTable

SIZES = (10, 30, 100, 300)
_HELD_OUT = 0.2
_SPLITS = 2


@dataclass(frozen=True)
class CurvePoint:
    """Errors, as fractions by method, of models fitted to ``samples`` samples."""

    samples: int
    mape: dict[str, float]


def learning_curve(table: SubnetTable, data: LatencyData, seed: int = 0) -> list[CurvePoint]:
    """Mean errors of the latency model and of the baselines, fitted to 10, 30, 100, 300, ... samples.

    Args:
        table: quantities of the space.
        data: measured subnets; a fifth of them is held out, the largest size is all others.
        seed: of the splits and the trees.

    Returns:
        For each size, means over two splits.
    """
    most = round(len(data) * (1 - _HELD_OUT))
    points = []
    for size in [*(size for size in SIZES if size < 0.9 * most), most]:
        errors: dict[str, list[float]] = {}
        for split in range(_SPLITS):
            rows = np.random.default_rng((seed, split)).permutation(len(data))
            scores = held_out(table, data[rows[:size]], data[rows[most:]], seed)
            for name, score in scores.items():
                errors.setdefault(name, []).append(score["mape"])
        points.append(CurvePoint(size, {name: float(np.mean(of_name)) for name, of_name in errors.items()}))
    return points


def doubled(curve: Sequence[CurvePoint]) -> float | None:
    """The error that twice as many samples promise: the curve's last slope in a log-log plot, never upwards.

    None where the curve has one point.
    """
    if len(curve) < 2:
        return None
    (fewer, before), (more, now) = ((point.samples, point.mape[OURS]) for point in curve[-2:])
    slope = min(0.0, float(np.log(now / before) / np.log(more / fewer)))
    return float(now * 2**slope)
