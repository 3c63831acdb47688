"""How far an accuracy counted on some images may be from its value on infinitely many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Answers = NDArray[np.bool_]
"""For each held-out image, in order, whether a subnet classifies it correctly."""


@dataclass(frozen=True)
class Estimate:
    """An accuracy as a fraction, and its standard error."""

    top1: float
    error: float

    def with_prior(self, prior: Estimate) -> Estimate:
        """Both combined, each weighted by its certainty.

        The best of many counted accuracies owes part of its lead to chance. Shrinking it towards a prior corrects that
        (Efron and Morris, "Stein's paradox in statistics", Scientific American 1977).
        """
        if self.error == 0 or not math.isfinite(prior.error):
            return self
        weight = prior.error**2 / (prior.error**2 + self.error**2)
        return Estimate(prior.top1 + weight * (self.top1 - prior.top1), math.sqrt(weight) * self.error)


def standard_error(top1: float, images: int) -> float:
    """Standard error of a share of correct answers among independent images; never 0."""
    share = (top1 * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


def counted(answers: Answers) -> Estimate:
    """A subnet's accuracy as its answers show it."""
    top1 = float(answers.mean())
    return Estimate(top1, standard_error(top1, len(answers)))


def difference(one: Answers, other: Answers) -> Estimate:
    """How much better a subnet is than another on the same images: most answers agree, so the error is small."""
    apart = one.astype(np.int8) - other
    return Estimate(float(apart.mean()), float(apart.std() / math.sqrt(len(apart))))


def own_noise(answers: Sequence[Answers]) -> float:
    """Standard error of a subnet's counted accuracy beside others counted on the same images.

    It leaves out what makes images hard or easy for all subnets alike; infinite for fewer than two subnets.
    """
    pairs = [difference(one, other).error ** 2 for one, other in combinations(answers, 2)]
    return math.sqrt(float(np.mean(pairs)) / 2) if pairs else math.inf


def predictors_error(residuals: NDArray[np.float64], error: float) -> float:
    """Standard error of predictions alone, from residuals of counted accuracies, whose own error is taken out.

    Args:
        residuals: predicted less counted accuracies of subnets that no fit has seen, or their sizes.
        error: standard error of the counted ones.
    """
    variance = float(np.mean(residuals**2)) - error**2
    return math.sqrt(max(variance, (0.1 * error) ** 2))
