"""The contract of every searcher, and what NSGA-II must reach."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moocore import hypervolume

from ofa_tvm.searchers import SEARCHERS, relative_excess
from ofa_tvm.searchers.nsga2 import constrained_rank, crowding_distance
from ofa_tvm.spaces import get_space

SPACE = get_space("mbv3-cifar")
TINY = replace(SPACE, resolutions=(32,), depth_choices=(1, 2), kernel_choices=(3,), expand_choices=(2, 3), stages=2)


def synthetic(genomes, space=SPACE):
    """Additive latency (about 0.5 to 5) against a saturating error, both minimised, shape (n, 2)."""
    rng = np.random.default_rng(7)
    latency = rng.uniform(0.02, 0.2, (space.blocks, 1)) * [[1.0, 1.5, 2.2]]
    gain = rng.uniform(0.1, 0.5, (space.blocks, 1)) * [[1.0, 1.3, 1.5]]
    resolution, _, kernel, expand = space.split_genes(genomes)
    active = space.active_blocks(genomes)
    blocks = np.arange(space.blocks)
    area = (np.asarray(space.resolutions)[resolution] / space.resolutions[-1]) ** 2
    cost = (active * latency[blocks, kernel] * (1 + expand)).sum(axis=1) * area
    quality = (active * gain[blocks, expand] * (1 + 0.3 * kernel)).sum(axis=1) + 2 * area
    return np.stack([0.2 + cost, np.exp(-quality / 4)], axis=1)


def run(searcher, generations, count=100, limit=np.inf):
    asked = []
    for _ in range(generations):
        genomes = searcher.ask(count)
        objectives = synthetic(genomes)
        searcher.tell(genomes, objectives, relative_excess(objectives[:, 0], limit))
        asked.append(genomes)
    return np.concatenate(asked)


@pytest.fixture(params=SEARCHERS)
def make(request):
    return lambda space=SPACE, seed=0: SEARCHERS[request.param](space, np.random.default_rng(seed))


def test_same_seed_same_search(make):
    assert np.array_equal(run(make(), 5), run(make(), 5))
    assert not np.array_equal(run(make(), 2), run(make(seed=1), 2))


def test_asks_canonical_subnets_once(make):
    asked = run(make(), 10)
    assert asked.shape == (1000, len(SPACE.gene_sizes))
    assert asked.dtype == np.int8
    assert np.array_equal(asked, SPACE.canonical(asked))
    assert len(np.unique(asked, axis=0)) == len(asked)


@pytest.mark.parametrize("limit", [np.inf, 1.5])
def test_front_is_feasible_non_dominated_and_each_subnet_once(make, limit):
    searcher = make()
    asked = run(searcher, 10, limit=limit)
    genomes, objectives = searcher.front()
    assert len(genomes) > 0
    assert np.array_equal(objectives, synthetic(genomes))
    assert (objectives[:, 0] <= limit).all()
    assert len(np.unique(genomes, axis=0)) == len(genomes)
    everything = synthetic(asked)
    everything = everything[everything[:, 0] <= limit]
    no_worse = (everything[:, None] <= objectives).all(axis=2)
    better = (everything[:, None] < objectives).any(axis=2)
    assert not (no_worse & better).any()


def test_nothing_feasible_is_an_empty_front(make):
    searcher = make()
    run(searcher, 3, limit=0.01)
    genomes, objectives = searcher.front()
    assert len(genomes) == len(objectives) == 0
    assert len(make().front()[0]) == 0


def test_ends_with_the_space(make):
    searcher = make(TINY)
    found = []
    while len(genomes := searcher.ask(10)):
        searcher.tell(genomes, synthetic(genomes, TINY), np.zeros(len(genomes)))
        found.append(genomes)
    assert len(np.unique(np.concatenate(found), axis=0)) == TINY.cardinality == 36
    assert searcher.ask(10).shape == (0, len(TINY.gene_sizes))


def test_told_subnets_are_not_asked_and_the_last_answer_counts(make):
    searcher = make()
    genomes = SPACE.sample(np.random.default_rng(3), 50)
    searcher.tell(genomes, np.ones((50, 2)), np.zeros(50))
    searcher.tell(genomes[:1], np.array([[0.0, 0.0]]), np.zeros(1))
    assert np.array_equal(searcher.front()[0], genomes[:1])
    searcher.tell(genomes[:1], np.array([[2.0, 2.0]]), np.zeros(1))
    front, objectives = searcher.front()
    assert len(front) == 49
    assert (objectives == 1).all()
    told = {genome.tobytes() for genome in genomes}
    assert not told & {genome.tobytes() for genome in searcher.ask(500)}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_failures_cannot_be_told_as_numbers(make, bad):
    genomes = SPACE.sample(np.random.default_rng(3), 1)
    with pytest.raises(ValueError, match="finite"):
        make().tell(genomes, np.array([[1.0, bad]]), np.zeros(1))
    with pytest.raises(ValueError, match="negative"):
        make().tell(genomes, np.ones((1, 2)), np.array([-1.0]))
    with pytest.raises(ValueError, match="genomes"):
        make().tell(genomes, np.ones((2, 2)), np.zeros(2))


def volume(objectives):
    return hypervolume(objectives, ref=[8.0, 1.0])


def test_nsga2_matches_pymoo_and_beats_random():
    pytest.importorskip("pymoo")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Synthetic(Problem):
        def __init__(self):
            super().__init__(n_var=len(SPACE.gene_sizes), n_obj=2, xl=0, xu=SPACE.gene_sizes - 1, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs):
            out["F"] = synthetic(SPACE.canonical(x.astype(np.int8)))

    def searched(name, seed):
        searcher = SEARCHERS[name](SPACE, np.random.default_rng(seed))
        run(searcher, 40)
        return volume(searcher.front()[1])

    def pymoo_volume(seed):
        repair = RoundingRepair()
        mutation = PM(prob=1.0, eta=3.0, vtype=float, repair=repair)
        algorithm = NSGA2(
            pop_size=100,
            sampling=IntegerRandomSampling(),
            crossover=UX(prob=0.9),
            mutation=mutation,
            eliminate_duplicates=True,
        )
        return volume(minimize(Synthetic(), algorithm, ("n_gen", 40), seed=seed).F)

    ours = np.mean([searched("nsga2", seed) for seed in range(3)])
    assert ours >= 0.99 * np.mean([pymoo_volume(seed) for seed in range(3)])
    assert ours > 1.02 * np.mean([searched("random", seed) for seed in range(3)])


def test_infeasible_subnets_rank_behind_by_violation():
    objectives = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    rank = constrained_rank(objectives, np.array([0.0, 0.0, 0.0, 0.5, 0.1]))
    assert rank.tolist() == [0, 0, 1, 3, 2]
    assert constrained_rank(objectives, np.arange(5) + 1.0).tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=30))
def test_ranks_agree_with_their_definition(points):
    objectives = np.array(points, dtype=float)
    rank = constrained_rank(objectives, np.zeros(len(points)))
    left = np.arange(len(points))
    for level in range(rank.max() + 1):
        values = objectives[left]
        dominated = ((values[:, None] <= values).all(axis=2) & (values[:, None] < values).any(axis=2)).any(axis=0)
        assert set(np.flatnonzero(rank == level)) == set(left[~dominated])
        left = left[dominated]


def test_crowding_of_one_front():
    objectives = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [9.0, 9.0]])
    distance = crowding_distance(objectives, np.array([0, 0, 0, 1]))
    assert distance.tolist() == [np.inf, 2.0, np.inf, np.inf]
