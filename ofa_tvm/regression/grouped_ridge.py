"""GroupedRidge: a linear model whose columns come in groups, each of which the data allow to matter or not.

Every group has its own prior variance. All of them, and the noise, are those under which the samples are most likely
(MacKay, Neural Computation 1992, "Bayesian interpolation"), so a group that explains nothing is switched off, and few
samples are enough for many columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]

_FREEDOM = 4.0
"""Degrees of freedom of Student's t: how readily a sample is taken for an outlier."""
_FITS = 3
_EXPECTED = (-4.0, -7.0)
"""Logarithms of a group's variance and of the noise's before any sample is seen, ..."""
_DOUBT = 4.0
"""... and their standard deviation, which keeps ten samples from settling them."""
_VARIANCE_BOUNDS = (-20.0, 6.0)
_NOISE_BOUNDS = (-16.0, 0.0)


@dataclass(frozen=True)
class GroupedRidge:
    """A fitted model.

    Args:
        coefficients: shape (columns,).
        noise: standard deviation of what the columns cannot explain.
        unseen: predictions of the fitted samples, each left out of the fit, shape (n,).
        logarithms: of the variances of the groups, and of the noise at the end.
    """

    coefficients: Floats
    noise: float
    unseen: Floats
    logarithms: Floats

    def predict(self, features: Floats) -> Floats:
        """Values, shape (n,), of features (n, columns)."""
        return features @ self.coefficients

    @classmethod
    @threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]  # more slow small matrices down
    def fit(cls, features: Floats, target: Floats, groups: Sequence[int], start: Floats | None = None) -> GroupedRidge:
        """Fit, then weigh samples by how likely they are and fit again, so that outliers hardly count.

        The weights are those of Student's t errors (Lange, Little and Taylor, JASA 1989). Leave-one-out predictions
        follow from the leverages (Golub, Heath and Wahba, Technometrics 1979).

        Args:
            features: shape (n, columns); their scale within a group says how large their coefficients may be.
            target: shape (n,), of the order of 1.
            groups: number of the group of each column, from 0.
            start: ``logarithms`` of a fit to similar samples, to start near the maximum.
        """
        members = np.asarray(groups)
        squares = (features**2).sum(axis=0)
        norms = np.sqrt(np.bincount(members, squares) / len(features))[members]
        scale = np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 0.0)
        scaled = features * scale
        expected = np.r_[np.full(members.max() + 1, _EXPECTED[0]), _EXPECTED[1]]
        logs = expected if start is None else start
        weights = np.ones(len(target))
        for _ in range(_FITS):
            problem = _Evidence(scaled, target, weights, members, expected)
            logs = problem.most_likely(logs)
            mean, covariance, noise = problem.posterior(logs)
            leverage = np.minimum(weights * ((scaled @ covariance) * scaled).sum(axis=1) / noise**2, 1 - 1e-6)
            unseen = target - (target - scaled @ mean) / (1 - leverage)
            weights = (_FREEDOM + 1) / (_FREEDOM + (unseen - target) ** 2 * (1 - leverage) / noise**2)
            weights /= weights.mean()
        return cls(mean * scale, noise, unseen, logs)


class _Evidence:
    """The likelihood of samples as a function of the logarithms of the groups' variances and of the noise's."""

    def __init__(
        self, features: Floats, target: Floats, weights: Floats, members: NDArray[np.intp], expected: Floats
    ) -> None:
        weighted = features * weights[:, None]
        self._members, self._count = members, len(target)
        self._gram = weighted.T @ features
        self._moment = weighted.T @ target
        self._power = float(weights @ target**2)
        self._expected = expected

    def most_likely(self, start: Floats) -> Floats:
        """Logarithms of the variances at the maximum, the noise's last."""
        from scipy.optimize import minimize  # imported late: prediction does without

        bounds = [_VARIANCE_BOUNDS] * (len(start) - 1) + [_NOISE_BOUNDS]
        optimum = minimize(
            self._cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-5}
        )
        best: Floats = optimum.x
        return best

    def posterior(self, logs: Floats) -> tuple[Floats, Floats, float]:
        """Mean and covariance of the coefficients, and the standard deviation of the noise."""
        root, inverse, mean, _ = self._solve(logs)
        covariance = root[:, None] * inverse * root
        return root * mean, covariance, float(np.exp(logs[-1] / 2))

    def _solve(self, logs: Floats) -> tuple[Floats, Floats, Floats, float]:
        root = np.exp(logs[:-1] / 2)[self._members]
        noise = np.exp(logs[-1])
        matrix = root[:, None] * self._gram * root / noise
        matrix[np.diag_indices(len(matrix))] += 1.0
        lower = np.linalg.cholesky(matrix)
        inverse_lower = np.linalg.inv(lower)
        inverse = inverse_lower.T @ inverse_lower
        return root, inverse, inverse @ (root * self._moment) / noise, float(2 * np.log(np.diag(lower)).sum())

    def _cost(self, logs: Floats) -> tuple[float, Floats]:
        """Negative logarithm of the likelihood, and its gradient."""
        root, inverse, mean, determinant = self._solve(logs)
        noise = np.exp(logs[-1])
        coefficients = root * mean
        explained = self._moment @ coefficients
        left = self._power - 2 * explained + coefficients @ self._gram @ coefficients
        settled = 1 - np.diag(inverse)
        cost = 0.5 * ((self._power - explained) / noise + determinant + self._count * logs[-1])
        groups = np.bincount(self._members, settled - mean**2, len(logs) - 1)
        gradient = 0.5 * np.r_[groups, self._count - settled.sum() - left / noise]
        off = (logs - self._expected) / _DOUBT**2
        return float(cost) + 0.5 * float(off @ (logs - self._expected)), gradient + off
