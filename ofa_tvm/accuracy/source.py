"""Where a search takes accuracies from: a supernet whose subnets can be evaluated, or a published predictor alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.ofa_predictor import BIAS, OfaPredictor
from ofa_tvm.accuracy.predictor import PredictorQuality
from ofa_tvm.accuracy.samples import AccuracySamples, Evaluate
from ofa_tvm.accuracy.uncertainty import Estimate, own_noise, predictors_error, standard_error
from ofa_tvm.spaces import Genomes, SearchSpace, SubnetConfig

Floats = NDArray[np.float64]
COMPARED = 20
"""Subnets whose answers show how much of an accuracy is chance."""


class AccuracySource(Protocol):
    """Predicts accuracies, and evaluates subnets where that is possible."""

    @property
    def note(self) -> str:
        """A caveat about its figures; empty where there is none."""
        ...

    @property
    def space(self) -> SearchSpace:
        """The space of its genomes."""
        ...

    def fit(self) -> None:
        """Learn from everything evaluated."""

    def predict(self, genomes: Genomes) -> Floats:
        """Top-1 fractions, shape (n,)."""
        ...

    def evaluate(self, configs: Sequence[SubnetConfig]) -> None:
        """Evaluate subnets on validation images."""

    def validated(self, config: SubnetConfig) -> float | None:
        """Top-1 fraction on validation images of an evaluated subnet."""
        ...

    def error(self, top1: float) -> float | None:
        """Standard error of an accuracy counted on the validation images; None where there are none."""
        ...

    def estimate(self, config: SubnetConfig) -> Estimate:
        """The best estimate of a subnet's accuracy; its error tells how far subnets of equal accuracy may lie apart."""
        ...

    def report(self) -> PredictorQuality | None:
        """Quality of the predictor; None where it is not known."""
        ...


class EvaluatedAccuracy:
    """A supernet's accuracies: predicted from evaluated subnets, and evaluated.

    Args:
        samples: evaluated subnets, enough for a predictor.
        evaluate: evaluates one more.
        images: number of held-out images that it evaluates on.
        note: a caveat; empty for none.
    """

    def __init__(self, samples: AccuracySamples, evaluate: Evaluate, images: int, note: str = "") -> None:
        self._samples, self._evaluate, self.images, self.note = samples, evaluate, images, note
        self._noise = self._own_noise()
        self.fit()

    @property
    def space(self) -> SearchSpace:
        """See ``AccuracySource``."""
        return self._samples.space

    def fit(self) -> None:
        """See ``AccuracySource``."""
        self._predictor = self._samples.predictor()

    def predict(self, genomes: Genomes) -> Floats:
        """See ``AccuracySource``."""
        return self._predictor.predict(genomes)[0]

    def evaluate(self, configs: Sequence[SubnetConfig]) -> None:
        """See ``AccuracySource``."""
        self._samples.evaluate(configs, self._evaluate, compared=True)
        self._noise = self._own_noise()

    def _own_noise(self) -> float:
        return own_noise(list(self._samples.answers.values())[-COMPARED:])

    def validated(self, config: SubnetConfig) -> float | None:
        """See ``AccuracySource``."""
        return self._samples.top1.get(config.key)

    def estimate(self, config: SubnetConfig) -> Estimate:
        """See ``AccuracySource``: validated and predicted accuracy together."""
        predicted = float(self.predict(self.space.genomes([config]))[0])
        validated = self.validated(config)
        noise = min(self._noise, standard_error(min(1.0, max(0.0, predicted)), self.images))
        prior = Estimate(predicted, predictors_error(self._predictor.scores, noise))
        return prior if validated is None else Estimate(validated, noise).with_prior(prior)

    def error(self, top1: float) -> float | None:
        """See ``AccuracySource``."""
        return standard_error(min(1.0, max(0.0, top1)), self.images)

    def report(self) -> PredictorQuality | None:
        """See ``AccuracySource``."""
        return self._samples.report()


@dataclass(frozen=True)
class PublishedAccuracy:
    """OFA's published predictor: nothing can be evaluated."""

    predictor: OfaPredictor
    note: str = BIAS

    @property
    def space(self) -> SearchSpace:
        """See ``AccuracySource``."""
        return self.predictor.space

    def fit(self) -> None:
        """See ``AccuracySource``: it does not learn."""

    def predict(self, genomes: Genomes) -> Floats:
        """See ``AccuracySource``."""
        return self.predictor.predict(genomes)

    def evaluate(self, configs: Sequence[SubnetConfig]) -> None:
        """See ``AccuracySource``: there is nothing to evaluate with."""

    def validated(self, config: SubnetConfig) -> float | None:
        """See ``AccuracySource``."""
        return None

    def estimate(self, config: SubnetConfig) -> Estimate:
        """See ``AccuracySource``."""
        return Estimate(float(self.predict(self.space.genomes([config]))[0]), 0.0)

    def error(self, top1: float) -> float | None:
        """See ``AccuracySource``: nothing is counted."""
        return None

    def report(self) -> PredictorQuality | None:
        """See ``AccuracySource``."""
        return None
