"""What a searcher is: it is asked for subnets and told how good they are; others evaluate, store and print."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Floats = NDArray[np.float64]


class Searcher(Protocol):
    """Proposes subnets that were not proposed before.

    Equal seeds and equal answers give equal proposals.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        """Search this space with this generator, which nothing else should use."""

    def ask(self, count: int) -> Genomes:
        """New canonical genomes, shape (count, genes); fewer rows, or none, when the space is exhausted."""

    def tell(self, genomes: Genomes, objectives: Floats, violations: Floats) -> None:
        """Learn how good subnets are, asked for or not; the last answer about a subnet counts.

        Args:
            genomes: shape (n, genes).
            objectives: shape (n, m), all minimised.
            violations: shape (n,), how far each is from meeting the constraints; 0 meets them.

        Raises:
            ValueError: shapes disagree, or a number is not finite (failures are left out, not told as numbers).
        """

    def front(self) -> tuple[Genomes, Floats]:
        """Feasible subnets that no other feasible one dominates, (k, genes), and their objectives, (k, m)."""


def relative_excess(value: Floats, limit: float) -> Floats:
    """How far a value lies above its limit, as a fraction of it, shape (n,): a violation for ``tell``."""
    return np.maximum(0.0, np.asarray(value) / limit - 1)
