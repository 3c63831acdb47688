"""What NSGA-II must reach: pymoo's NSGA-II at equal evaluations, and the whole front where it can be enumerated.

``benchmarks/searchers.py`` measures the same with the predictors and more evaluations.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from moocore import hypervolume

from ofa_tvm.nas.searchers import Exhaustive, Nsga2, RandomSearch, relative_excess
from ofa_tvm.nas.searchers.archive import feasible_front
from ofa_tvm.nas.searchers.optimise import optimise
from ofa_tvm.spaces import get_space

POPULATION = 100
SEEDS = range(3)
SPACES = {"mbv3": (get_space("mbv3"), 7.0), "mbv3-cifar": (get_space("mbv3-cifar"), 1.5)}
SMALL = replace(get_space("mbv3-cifar"), kernel_choices=(3, 7), expand_choices=(2, 4), resolutions=(24,))


def objectives(space, genomes):
    """Additive latency against a saturating error, both minimised, shape (n, 2)."""
    rng = np.random.default_rng(7)
    shape = (space.blocks, 1)
    latency = rng.uniform(0.02, 0.2, shape) * (1 + 0.5 * np.arange(len(space.kernel_choices)))
    gain = rng.uniform(0.1, 0.5, shape) * np.sqrt(1 + np.arange(len(space.expand_choices)))
    resolution, _, kernel, expand = space.split_genes(genomes)
    active = space.active_blocks(genomes)
    blocks = np.arange(space.blocks)
    area = (np.asarray(space.resolutions)[resolution] / space.resolutions[-1]) ** 2
    cost = (active * latency[blocks, kernel] * (1 + expand)).sum(axis=1) * area
    quality = (active * gain[blocks, expand] * (1 + 0.3 * kernel)).sum(axis=1) / space.stages + area
    return np.stack([0.2 + cost, np.exp(-quality)], axis=1)


def score(space, limit):
    def values(genomes):
        found = objectives(space, genomes)
        return found, relative_excess(found[:, 0], limit)

    return values


def front(searcher, space, limit, evaluations, seed=0):
    search = searcher(space, np.random.default_rng(seed))
    optimise(search, score(space, limit), evaluations, POPULATION)
    return search.front()[1]


def pymoo_front(space, limit, evaluations, seed):
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen = []

    class Search(Problem):  # type: ignore[misc]  # pymoo has no types
        def __init__(self):
            super().__init__(len(space.gene_sizes), 2, 1, xl=0, xu=space.gene_sizes - 1, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            seen.append(score(space, limit)(space.canonical(x.astype(np.int8))))
            out["F"], out["G"] = seen[-1][0], seen[-1][1][:, None]

    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=UX(prob=0.9),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Search(), algorithm, ("n_eval", evaluations), seed=seed)
    found, violations = map(np.concatenate, zip(*seen, strict=True))
    return found[feasible_front(found, violations)]


def volumes(*groups):
    """Mean hypervolume of each group of fronts, both objectives scaled to those of all fronts."""
    every = np.concatenate([front for group in groups for front in group])
    low, high = every.min(axis=0), every.max(axis=0)
    return [np.mean([hypervolume((front - low) / (high - low), ref=[1.1, 1.1]) for front in group]) for group in groups]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("limited", [False, True])
def test_nsga2_matches_pymoo_and_beats_random(name, limited):
    pytest.importorskip("pymoo")
    space, budget = SPACES[name]
    limit = budget if limited else np.inf
    ours = [front(Nsga2, space, limit, 3000, seed) for seed in SEEDS]
    random = [front(RandomSearch, space, limit, 3000, seed) for seed in SEEDS]
    pymoo = [pymoo_front(space, limit, 3000, seed) for seed in SEEDS]
    ours, random, pymoo = volumes(ours, random, pymoo)
    assert ours >= 0.99 * pymoo
    assert ours > 1.02 * random


@pytest.mark.parametrize("limit", [np.inf, 1.0])
def test_nsga2_nears_the_exhaustive_front(limit):
    whole = front(Exhaustive, SMALL, limit, SMALL.cardinality)
    ours = [front(Nsga2, SMALL, limit, 4000, seed) for seed in SEEDS]
    best, reached = volumes([whole], ours)
    assert reached >= 0.99 * best
