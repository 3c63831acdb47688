"""How far an accuracy counted on some images may be from what it would be on endless ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Answers = NDArray[np.bool_]
"""Of each held-out image, in order, whether a subnet classifies it rightly."""


@dataclass(frozen=True)
class Estimate:
    """An accuracy as a fraction, and its standard error."""

    top1: float
    error: float

    def with_prior(self, prior: Estimate) -> Estimate:
        """What both say together, each weighted by how certain it is.

        The best of many counted accuracies is one that chance was kind to. Drawn towards what is known without
        counting it, it is not (Efron and Morris, "Stein's paradox in statistics", Scientific American 1977).
        """
        if self.error == 0 or not math.isfinite(prior.error):
            return self
        weight = prior.error**2 / (prior.error**2 + self.error**2)
        return Estimate(prior.top1 + weight * (self.top1 - prior.top1), math.sqrt(weight) * self.error)


def standard_error(top1: float, images: int) -> float:
    """Of a share of right answers among independent images; none is certain after finitely many."""
    share = (top1 * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


def counted(answers: Answers) -> Estimate:
    """What answers tell of a subnet's accuracy."""
    top1 = float(answers.mean())
    return Estimate(top1, standard_error(top1, len(answers)))


def difference(one: Answers, other: Answers) -> Estimate:
    """By how much a subnet is better than another on the same images: most answers agree, so it is known better."""
    apart = one.astype(np.int8) - other
    return Estimate(float(apart.mean()), float(apart.std() / math.sqrt(len(apart))))


def own_noise(answers: Sequence[Answers]) -> float:
    """Standard error of a subnet's counted accuracy beside others counted on the same images.

    What makes the images hard or easy for all subnets alike is not in it; infinite for fewer than two subnets.
    """
    pairs = [difference(one, other).error ** 2 for one, other in combinations(answers, 2)]
    return math.sqrt(float(np.mean(pairs)) / 2) if pairs else math.inf


def predictors_error(residuals: NDArray[np.float64], error: float) -> float:
    """Standard error of predictions alone, from residuals of counted accuracies, which have one of their own.

    Args:
        residuals: predicted less counted accuracies of subnets that no fit has seen, or their sizes.
        error: standard error of the counted ones.
    """
    variance = float(np.mean(residuals**2)) - error**2
    return math.sqrt(max(variance, (0.1 * error) ** 2))
