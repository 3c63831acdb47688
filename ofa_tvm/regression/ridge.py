"""Ridge regression that chooses its own penalty by exact leave-one-out error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES = np.logspace(-5, 2, 29)
_FREEDOM = 1e3
"""Free columns are scaled up by this, which divides their penalty by its square."""


@dataclass(frozen=True)
class Ridge:
    """A linear model without intercept: give a column of ones, as a free column, for one.

    Args:
        coefficients: shape (columns,).
        penalty: the penalty that was chosen, relative to the number of samples.
    """

    coefficients: Floats
    penalty: float

    def predict(self, features: Floats) -> Floats:
        """Values, shape (n,), of features (n, columns)."""
        return features @ self.coefficients

    @classmethod
    def fit(cls, features: Floats, target: Floats, free: int) -> tuple[Ridge, Floats]:
        """Fit and return the leave-one-out predictions too, shape (n,).

        Columns are brought to one scale; the first ``free`` columns are practically not penalised. The leave-one-out
        residual is ``residual / (1 - leverage)`` (Golub, Heath and Wahba, Technometrics 1979), so neither it
        nor the choice of the penalty needs a second fit.

        Args:
            features: shape (n, columns).
            target: shape (n,).
            free: number of leading columns that the penalty leaves alone.
        """
        scale = np.sqrt((features**2).mean(axis=0)) * np.sqrt(len(features))
        scale[scale == 0] = 1.0
        scale[:free] /= _FREEDOM
        left, singular, right = np.linalg.svd(features / scale, full_matrices=False)
        shrink = singular**2 / (singular**2 + PENALTIES[:, None])
        projected = left.T @ target
        fitted = (shrink * projected) @ left.T
        leverage = np.minimum(shrink @ (left**2).T, 1 - 1e-6)
        residuals = (target - fitted) / (1 - leverage)
        best = int((residuals**2).mean(axis=1).argmin())
        divisor = singular + PENALTIES[best] / np.maximum(singular, 1e-12)
        coefficients = (projected / divisor) @ right / scale
        return cls(coefficients, float(PENALTIES[best])), target - residuals[best]
