"""Uniform random search: the searcher that every other has to beat."""

from __future__ import annotations

import numpy as np

from ofa_tvm.nas.searchers.archive import Archive, Floats
from ofa_tvm.nas.searchers.base import Searcher
from ofa_tvm.spaces import Genomes, SearchSpace


class RandomSearch(Searcher):
    """Every gene drawn uniformly, never the same subnet twice."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        self._space = space
        self._rng = rng
        self._archive = Archive(space)

    def ask(self, count: int) -> Genomes:
        """See ``Searcher``."""
        return self._archive.new(count, lambda wanted: self._space.sample(self._rng, wanted))

    def tell(self, genomes: Genomes, objectives: Floats, violations: Floats) -> None:
        """See ``Searcher``."""
        self._archive.record(genomes, objectives, violations)

    def front(self) -> tuple[Genomes, Floats]:
        """See ``Searcher``."""
        return self._archive.front()
