"""What NSGA-II must reach: pymoo's NSGA-II at equal evaluations, and the whole front where it can be enumerated.

``benchmarks/searchers.py`` measures the same with the predictors and more evaluations.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from searchers import Case, ours, pymoo_nsga2, volumes

from ofa_tvm.spaces import get_space

POPULATION = 100
SEEDS = range(3)
SPACES = {"mbv3": (get_space("mbv3"), 7.0), "mbv3-cifar": (get_space("mbv3-cifar"), 1.5)}
SMALL = replace(get_space("mbv3-cifar"), kernel_choices=(3, 7), expand_choices=(2, 4), resolutions=(24,))


def made_up(space, limit):
    """A case with a saturating error and an additive latency, both minimised."""

    def objectives(genomes):
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
        return np.stack([np.exp(-quality), 0.2 + cost], axis=1)

    return Case("made up", space, objectives, limit)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("limited", [False, True])
def test_nsga2_matches_pymoo_and_beats_random(name, limited):
    pytest.importorskip("pymoo")
    space, budget = SPACES[name]
    case = made_up(space, budget if limited else np.inf)
    fronts = {one: [ours(case, one, seed, 3000, POPULATION) for seed in SEEDS] for one in ("nsga2", "random")}
    fronts["pymoo"] = [pymoo_nsga2(case, seed, 3000, POPULATION) for seed in SEEDS]
    found = {one: fmean(each) for one, each in volumes(fronts).items()}
    assert found["nsga2"] >= 0.99 * found["pymoo"]
    assert found["nsga2"] > 1.02 * found["random"]


@pytest.mark.parametrize("limit", [np.inf, 1.0])
def test_nsga2_nears_the_exhaustive_front(limit):
    case = made_up(SMALL, limit)
    whole = ours(case, "exhaustive", 0, SMALL.cardinality, POPULATION)
    nsga2 = [ours(case, "nsga2", seed, 4000, POPULATION) for seed in SEEDS]
    found = volumes({"whole": [whole], "nsga2": nsga2})
    assert fmean(found["nsga2"]) >= 0.99 * found["whole"][0]
