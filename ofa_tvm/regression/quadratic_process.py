"""QuadraticModel: constant, linear and pairwise effects of columns, shrunk by groups, learned from few samples.

A Gaussian process with kernel ``amplitude * (1 + sum over columns c of weight_c x_c x'_c) ** 2`` (Rasmussen and
Williams, Gaussian Processes for Machine Learning, MIT Press 2006, section 4.2.2). That is Bayesian regression on the
columns and all products of two. Columns of one group share a weight (MacKay 1994: automatic relevance determination);
weights, amplitude and noise maximise the posterior. A polynomial kernel leaves one small matrix and no samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
Groups = NDArray[np.intp]

_START = (0.0, -2.0, -3.0)
"""Logarithms of amplitude, noise variance and weights before fitting, for targets of unit variance."""
_DEVIATION = 2.0
"""Standard deviation of a weight's logarithm around its start, before samples are seen."""
_BOUND = 7.0
"""How far logarithms may go from their start: keeps matrices well conditioned."""


@dataclass(frozen=True)
class QuadraticModel:
    """A fitted model.

    Args:
        matrix: M of ``[1, x] M [1, x]^T``, symmetric, shape (1 + columns, 1 + columns).
        noise: estimated standard deviation of samples around the model, in the target's unit.
        residuals: of each sample, its value less what the others predict for it, with the weights that all of them
            gave, shape (n,); empty in a model that was read from a file.
    """

    matrix: Floats
    noise: float
    residuals: Floats = field(default_factory=lambda: np.empty(0))

    @classmethod
    @threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]  # more slow small matrices down
    def fit(cls, columns: Floats, groups: Groups, target: Floats) -> QuadraticModel:
        """Learn from samples.

        Args:
            columns: shape (n, columns), of about unit range.
            groups: group of each column, counted from 0, shape (columns,).
            target: shape (n,).
        """
        from scipy.linalg import cho_factor, cho_solve  # imported late: prediction does without
        from scipy.optimize import minimize

        mean, scale = float(target.mean()), float(target.std()) or 1.0
        standard = (target - mean) / scale
        start = np.repeat(_START, (1, 1, int(groups.max()) + 1))
        bounds = np.stack([start - _BOUND, start + _BOUND], axis=1)
        optimum = minimize(_loss, start, (columns, groups, standard, start), "L-BFGS-B", jac=True, bounds=bounds)
        amplitude, noise, weights = _unpack(optimum.x, groups)
        weighted = np.concatenate([np.ones((len(columns), 1)), columns * weights], axis=1)
        covariance = amplitude * (1 + weighted[:, 1:] @ columns.T) ** 2 + noise * np.eye(len(columns))
        inverse = cho_solve(cho_factor(covariance), np.eye(len(columns)))
        solved = inverse @ standard
        matrix = scale * amplitude * (weighted.T * solved) @ weighted
        matrix[0, 0] += mean
        residuals = scale * solved / np.diag(inverse)  # leave-one-out in closed form: same book, equation 5.12
        return cls(matrix, scale * float(np.sqrt(noise)), residuals)

    def predict(self, columns: Floats) -> Floats:
        """Values, shape (n,), of columns (n, columns)."""
        half = columns @ self.matrix[1:, 1:] + 2 * self.matrix[0, 1:]
        values: Floats = np.einsum("nc,nc->n", half, columns) + self.matrix[0, 0]
        return values


def _unpack(logarithms: Floats, groups: Groups) -> tuple[float, float, Floats]:
    amplitude, noise = np.exp(logarithms[:2])
    return float(amplitude), float(noise), np.exp(logarithms[2:])[groups]


def _loss(logarithms: Floats, columns: Floats, groups: Groups, target: Floats, start: Floats) -> tuple[float, Floats]:
    """Negative logarithm of the posterior up to a constant, and its gradient (same book, equations 5.8 and 5.9)."""
    from scipy.linalg import cho_factor, cho_solve

    amplitude, noise, weights = _unpack(logarithms, groups)
    base = 1 + (columns * weights) @ columns.T
    prior = amplitude * base**2
    factor = cho_factor(prior + noise * np.eye(len(target)), lower=True)
    solved = cho_solve(factor, target)
    slope = 0.5 * (cho_solve(factor, np.eye(len(target))) - np.outer(solved, solved))
    by_column = 2 * amplitude * weights * ((slope * base) @ columns * columns).sum(axis=0)
    by_group = np.bincount(groups, by_column)
    away = (logarithms - start) / _DEVIATION
    loss = 0.5 * target @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    gradient = np.concatenate([[(slope * prior).sum(), noise * np.trace(slope)], by_group])
    return float(loss), gradient + away / _DEVIATION
