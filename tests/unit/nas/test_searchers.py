"""The contract of every searcher, and what NSGA-II must reach."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moocore import is_nondominated

from ofa_tvm.nas.searchers import SEARCHERS, Exhaustive, Nsga2, relative_excess
from ofa_tvm.nas.searchers.nsga2 import constrained_rank, crowding_distance, uniform_subnets
from ofa_tvm.nas.searchers.numbering import SubnetNumbers
from ofa_tvm.spaces import get_space
from ofa_tvm.support.errors import UserError

LARGE = get_space("mbv3-cifar")
SPACE = replace(LARGE, expand_choices=(4,))
"""140 thousand subnets, few enough to try all."""
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


def test_nsga2_breeds_from_what_it_was_told():
    searcher = Nsga2(LARGE, np.random.default_rng(0))
    known = LARGE.sample(np.random.default_rng(3), 200)
    known[:, 0] = 2
    searcher.tell(known, synthetic(known, LARGE), np.zeros(200))
    assert (searcher.ask(100)[:, 0] == 2).mean() > 0.9


def test_nsga2_starts_from_uniform_and_from_random_subnets():
    space = get_space("mbv3")
    depth = space.split_genes(Nsga2(space, np.random.default_rng(0)).ask(200))[1]
    assert 0.35 < (depth == depth[:, :1]).all(axis=1).mean() < 0.65


def test_uniform_subnets():
    genomes = uniform_subnets(LARGE, np.random.default_rng(0), 500)
    expected = {
        LARGE.uniform(resolution, depth, kernel, expand).key
        for resolution in LARGE.resolutions
        for depth in LARGE.depth_choices
        for kernel in LARGE.kernel_choices
        for expand in LARGE.expand_choices
    }
    assert {LARGE.config(genome).key for genome in genomes} == expected


def test_exhaustive_finds_the_whole_front():
    space = replace(LARGE, depth_choices=(1, 2), stages=2)
    searcher = Exhaustive(space, np.random.default_rng(0))
    told = space.sample(np.random.default_rng(1), 40)
    searcher.tell(told, synthetic(told, space), np.zeros(len(told)))
    asked = 0
    while len(genomes := searcher.ask(5000)):
        searcher.tell(genomes, synthetic(genomes, space), np.zeros(len(genomes)))
        asked += len(genomes)
    assert asked == space.cardinality - len(np.unique(told, axis=0))
    everything = SubnetNumbers(space).genomes(np.arange(space.cardinality))
    objectives = synthetic(everything, space)
    assert np.array_equal(searcher.front()[1], np.unique(objectives[is_nondominated(objectives)], axis=0))


def test_exhaustive_refuses_a_large_space():
    with pytest.raises(UserError, match=r"mbv3-cifar has 1.6e\+09 subnets") as error:
        Exhaustive(LARGE, np.random.default_rng(0))
    assert "nsga2" in error.value.hint


UNEVEN = replace(LARGE, depth_choices=(2, 3), stage_blocks=(3, 1, 2), stage_kernels=(3, 7, 5), expand_choices=(4,))


@pytest.mark.parametrize(
    "space", [TINY, SPACE, UNEVEN, replace(LARGE, depth_choices=(1, 3), kernel_choices=(3, 7), stages=2)]
)
def test_numbers_name_every_subnet_once(space):
    numbers = SubnetNumbers(space)
    everything = np.arange(space.cardinality)
    genomes = numbers.genomes(everything)
    assert np.array_equal(genomes, space.canonical(genomes))
    assert np.array_equal(numbers.of(genomes), everything)
    assert (genomes < space.gene_sizes).all()
    assert np.array_equal(genomes[numbers.of(genomes[::7])], genomes[::7])


def test_infeasible_subnets_rank_behind_by_violation():
    objectives = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [0.0, 0.0], [0.0, 0.0]])
    rank = constrained_rank(objectives, np.array([0.0, 0.0, 0.0, 0.5, 0.1]))
    assert rank.tolist() == [0, 0, 1, 3, 2]
    assert constrained_rank(objectives, np.array([1.0, 2.0, 3.0, 4.0, 5.0])).tolist() == [0, 1, 2, 3, 4]


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
