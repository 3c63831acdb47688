"""Where a search takes accuracies from: a supernet whose subnets can be evaluated, or somebody's predictor alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.ofa_predictor import BIAS, OfaPredictor
from ofa_tvm.accuracy.samples import AccuracySamples, Evaluate
from ofa_tvm.spaces import Genomes, SearchSpace, SubnetConfig

Floats = NDArray[np.float64]


class AccuracySource(Protocol):
    """Predicts accuracies, and evaluates subnets where that is possible."""

    @property
    def note(self) -> str:
        """What must be known of its figures; empty where nothing."""
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

    def report(self) -> dict[str, Any] | None:
        """Quality of the predictor; None where it is not known."""
        ...


class EvaluatedAccuracy:
    """A supernet's accuracies: predicted from evaluated subnets, and evaluated.

    Args:
        samples: evaluated subnets, enough for a predictor.
        evaluate: evaluates one more.
    """

    note = ""

    def __init__(self, samples: AccuracySamples, evaluate: Evaluate) -> None:
        self._samples, self._evaluate = samples, evaluate
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
        self._samples.evaluate(configs, self._evaluate)

    def validated(self, config: SubnetConfig) -> float | None:
        """See ``AccuracySource``."""
        return self._samples.top1.get(config.key)

    def report(self) -> dict[str, Any] | None:
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

    def report(self) -> dict[str, Any] | None:
        """See ``AccuracySource``."""
        return None
