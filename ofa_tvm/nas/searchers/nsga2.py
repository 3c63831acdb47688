"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan, IEEE Trans. Evolutionary Computation 2002), vectorised."""

from __future__ import annotations

import numpy as np
from moocore import pareto_rank
from numpy.typing import NDArray

from ofa_tvm.nas.searchers.archive import Archive, Floats, row_keys
from ofa_tvm.nas.searchers.base import Searcher
from ofa_tvm.spaces import Genomes, SearchSpace

_OFFSPRING_PATIENCE = 5
_UNIFORM_SHARE = 0.5


class Nsga2(Searcher):
    """Keeps the best of all it was told, by constrained domination and then by crowding, and breeds from them.

    Half of the subnets that it starts from are uniform: drawn gene by gene, a subnet of many blocks is always of
    middling size, and the ends of the front would have to be bred one gene at a time.

    Args:
        space: the space to search.
        rng: the only source of chance.
        population_size: subnets that survive.
        crossover: probability that a child mixes two parents.
        mutated_genes: genes of a child that are redrawn, on average.
    """

    def __init__(
        self,
        space: SearchSpace,
        rng: np.random.Generator,
        population_size: int = 100,
        crossover: float = 0.9,
        mutated_genes: float = 1.0,
    ) -> None:
        self._space = space
        self._rng = rng
        self._size = population_size
        self._crossover = crossover
        self._mutation = min(1.0, mutated_genes / len(space.gene_sizes))
        self._archive = Archive(space)
        self._genomes: Genomes = np.empty((0, len(space.gene_sizes)), dtype=np.int8)
        self._objectives: Floats = np.empty((0, 0))
        self._violations: Floats = np.empty(0)
        self._rank: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._crowding: Floats = np.empty(0)

    def ask(self, count: int) -> Genomes:
        """See ``Searcher``: random subnets until enough are known, children of the population afterwards."""
        children = self._genomes[:0]
        if len(self._genomes) == self._size:
            children = self._archive.new(count, self._breed, _OFFSPRING_PATIENCE)
        strangers = self._archive.new(count - len(children), self._strangers)
        return np.concatenate([children, strangers])

    def tell(self, genomes: Genomes, objectives: Floats, violations: Floats) -> None:
        """See ``Searcher``."""
        genomes, objectives, violations = self._archive.record(genomes, objectives, violations)
        if not len(genomes):
            return
        told = set(row_keys(genomes))
        old = np.array([key not in told for key in row_keys(self._genomes)], dtype=bool)
        genomes = np.concatenate([self._genomes[old], genomes])
        objectives = np.concatenate([self._objectives[old].reshape(-1, objectives.shape[1]), objectives])
        violations = np.concatenate([self._violations[old], violations])
        rank = constrained_rank(objectives, violations)
        crowding = crowding_distance(objectives, rank)
        best = np.lexsort((-crowding, rank))[: self._size]
        self._genomes, self._objectives, self._violations = genomes[best], objectives[best], violations[best]
        self._rank, self._crowding = rank[best], crowding[best]

    def front(self) -> tuple[Genomes, Floats]:
        """See ``Searcher``."""
        return self._archive.front()

    def _strangers(self, count: int) -> Genomes:
        uniform = self._rng.random((count, 1)) < _UNIFORM_SHARE
        drawn = self._space.sample(self._rng, count)
        return np.where(uniform, uniform_subnets(self._space, self._rng, count), drawn).astype(np.int8)

    def _breed(self, count: int) -> Genomes:
        first, second = self._genomes[self._tournament(count)], self._genomes[self._tournament(count)]
        crossed = self._space.cross(self._rng, first, second)
        mixes = self._rng.random((count, 1)) < self._crossover
        return self._space.mutate(self._rng, np.where(mixes, crossed, first).astype(np.int8), self._mutation)

    def _tournament(self, count: int) -> NDArray[np.intp]:
        """Rows of the better of two random subnets, ``count`` times."""
        first, second = self._rng.integers(len(self._genomes), size=(2, count))
        better = (self._rank[first] < self._rank[second]) | (
            (self._rank[first] == self._rank[second]) & (self._crowding[first] >= self._crowding[second])
        )
        winners: NDArray[np.intp] = np.where(better, first, second)
        return winners


def uniform_subnets(space: SearchSpace, rng: np.random.Generator, count: int) -> Genomes:
    """Canonical genomes with one depth, kernel size and expand ratio everywhere, drawn, shape (count, genes)."""
    share = rng.random((count, len(space.gene_sizes)))
    for genes in space.split_genes(share)[1:]:
        genes[:] = genes[:, :1]
    return space.canonical((share * space.gene_sizes).astype(np.int8))


def constrained_rank(objectives: Floats, violations: Floats) -> NDArray[np.intp]:
    """Rank under constrained domination, from 0, shape (n,) (Deb et al. 2002, section VI).

    Feasible subnets come first, by non-dominated sorting; the others follow by their violation alone.
    """
    feasible = violations == 0
    rank = np.zeros(len(violations), dtype=np.intp)
    if feasible.any():
        rank[feasible] = pareto_rank(objectives[feasible])
    if not feasible.all():
        after = rank[feasible].max() + 1 if feasible.any() else 0
        rank[~feasible] = after + np.unique(violations[~feasible], return_inverse=True)[1]
    return rank


def crowding_distance(objectives: Floats, rank: NDArray[np.intp]) -> Floats:
    """Crowding distance within each rank, shape (n,): infinite at the ends (Deb et al. 2002, section III.B).

    Args:
        objectives: shape (n, m).
        rank: shape (n,), every number from 0 to the largest occurs.
    """
    distance = np.zeros(len(rank))
    groups = np.sort(rank)
    levels = np.arange(groups[-1] + 1)
    first, last = np.searchsorted(groups, levels), np.searchsorted(groups, levels, side="right") - 1
    for values in objectives.T:
        order = np.lexsort((values, rank))
        ordered = values[order]
        extent = ordered[last] - ordered[first]
        extent[extent == 0] = 1.0
        gap = np.empty(len(order))
        gap[1:-1] = (ordered[2:] - ordered[:-2]) / extent[groups[1:-1]]
        gap[first] = gap[last] = np.inf
        distance[order] += gap
    return distance
