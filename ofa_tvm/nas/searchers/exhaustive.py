"""Every subnet of a small space: the front that the other searchers are judged by."""

from __future__ import annotations

import numpy as np

from ofa_tvm.nas.searchers.archive import Floats, checked, feasible_front
from ofa_tvm.nas.searchers.base import Searcher
from ofa_tvm.nas.searchers.numbering import SubnetNumbers
from ofa_tvm.spaces import Genomes, SearchSpace
from ofa_tvm.support.errors import UserError

MAX_SUBNETS = 5_000_000


class Exhaustive(Searcher):
    """All subnets, each once, in random order: stopped early, it has seen a fair sample.

    Raises:
        UserError: the space has more than ``MAX_SUBNETS`` subnets.
    """

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        if space.cardinality > MAX_SUBNETS:
            raise UserError(
                f"space {space.name} has {space.cardinality:.2g} subnets, too many to try all of them "
                f"(at most {MAX_SUBNETS:.2g})",
                "search it with nsga2",
            )
        self._numbers = SubnetNumbers(space)
        self._space = space
        self._order = rng.permutation(space.cardinality)
        self._position = 0
        self._known = np.zeros(space.cardinality, dtype=bool)
        self._objectives: Floats = np.empty((0, 0))
        self._violations: Floats = np.empty(0)

    def ask(self, count: int) -> Genomes:
        """See ``Searcher``."""
        batches = [self._order[:0]]
        while count > 0 and self._position < len(self._order):
            numbers = self._order[self._position : self._position + count]
            self._position += len(numbers)
            batches.append(numbers[~self._known[numbers]])
            count -= len(batches[-1])
        return self._numbers.genomes(np.concatenate(batches))

    def tell(self, genomes: Genomes, objectives: Floats, violations: Floats) -> None:
        """See ``Searcher``."""
        genomes, objectives, violations = checked(self._space, genomes, objectives, violations)
        if not len(self._objectives):
            self._objectives = np.empty((self._space.cardinality, objectives.shape[1]))
            self._violations = np.empty(self._space.cardinality)
        numbers = self._numbers.of(genomes)
        self._known[numbers] = True
        self._objectives[numbers] = objectives
        self._violations[numbers] = violations

    def front(self) -> tuple[Genomes, Floats]:
        """See ``Searcher``."""
        scored = np.flatnonzero(self._known)
        rows = scored[feasible_front(self._objectives[scored], self._violations[scored])] if len(scored) else scored
        return self._numbers.genomes(rows), self._objectives[rows]
