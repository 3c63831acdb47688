"""Measures of how well predictions agree with measurements, and the conformal quantile.

SciPy's statistics are imported where they are used: they take longer to import than most commands take to answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def relative_errors(predicted: Floats, measured: Floats) -> Floats:
    """Absolute errors as fractions of the measured values, shape (n,)."""
    return np.abs(np.asarray(predicted) / np.asarray(measured) - 1)


def mape(predicted: Floats, measured: Floats) -> float:
    """Mean absolute relative error, as a fraction."""
    return float(relative_errors(predicted, measured).mean())


def spearman(predicted: Floats, measured: Floats) -> float:
    """Spearman's rank correlation; 0 where one side is constant, which orders nothing."""
    from scipy import stats

    return _correlation(stats.spearmanr(predicted, measured).statistic) if _vary(predicted, measured) else 0.0


def kendall_tau(predicted: Floats, measured: Floats) -> float:
    """Kendall's tau-b; 0 where one side is constant, which orders nothing."""
    from scipy import stats

    return _correlation(stats.kendalltau(predicted, measured).statistic) if _vary(predicted, measured) else 0.0


def conformal_quantile(scores: Floats, coverage: float) -> float:
    """The bound that a fresh score stays under with probability ``coverage``, from exchangeable scores.

    The ``ceil((n + 1) * coverage)``-th smallest score (Vovk et al. 2005; Lei et al., JASA 2018, section 2.2),
    infinite when there are too few scores to promise the coverage.
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _vary(*samples: Floats) -> bool:
    return all(np.ptp(sample) > 0 for sample in samples)


def _correlation(value: object) -> float:
    return float(np.asarray(value))
