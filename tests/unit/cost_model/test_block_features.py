import numpy as np
import pytest

from ofa_tvm.cost_model.block_features import BlockFeatures
from ofa_tvm.spaces import SPACES, get_space
from ofa_tvm.spaces.block_table import BlockTable

SPACE = get_space("mbv3-cifar")


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_the_table_of_a_linear_model_adds_up_to_its_predictions(space):
    rng = np.random.default_rng(0)
    features = BlockFeatures(space)
    genomes = space.sample(rng, 50)
    coefficients = rng.standard_normal(len(features.groups))
    table = BlockTable(space, *features.table(coefficients))
    rows = features.rows(genomes)
    assert rows.shape == (50, len(features.groups))
    assert np.allclose(table.sum(genomes), rows @ coefficients)


def test_groups_are_counted_from_zero_without_gaps():
    groups = BlockFeatures(SPACE).groups
    assert sorted(set(groups)) == list(range(max(groups) + 1))
    assert groups == sorted(groups)


def test_a_prior_is_one_column_that_is_the_prior():
    rng = np.random.default_rng(1)
    choices = 1 + len(SPACE.kernel_choices) * len(SPACE.expand_choices)
    fixed = rng.random(len(SPACE.resolutions))
    blocks = rng.random((len(SPACE.resolutions), SPACE.blocks, choices))
    blocks[:, :, 0] = 0
    features = BlockFeatures(SPACE, [(fixed, blocks)])
    genomes = SPACE.sample(rng, 20)
    column = features.rows(genomes)[:, features.groups.index(1)]
    ratio = column / BlockTable(SPACE, fixed, blocks).sum(genomes)
    assert np.allclose(ratio, ratio[0])
    assert column.mean() == pytest.approx(1, rel=0.2)


def test_work_follows_the_true_map_sizes():
    """Two resolutions whose maps are alike in the last stage differ less there than their areas."""
    space = get_space("mbv3")
    features = BlockFeatures(space)
    last_stage = [number for number, group in enumerate(features.groups) if group == 2][-7:]
    rows = features.rows(space.genomes([space.uniform(size, 2, 3, 3) for size in (196, 220, 224)]))[:, last_stage]
    assert np.allclose(rows[1], rows[2])
    assert not np.allclose(rows[0], rows[2])
