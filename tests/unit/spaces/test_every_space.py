"""Every registered space: configs, keys, genomes and OFA's dicts are the same thing in four forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofa_tvm.graph.network import INPUT
from ofa_tvm.spaces import EFFICIENTNET_LITE, MBV3_CIFAR, SPACES, SearchSpace, SubnetConfig, get_space
from ofa_tvm.spaces.architectures import from_ofa
from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, make_divisible, widened
from ofa_tvm.spaces.own_model import elastic_model, fixed_model
from ofa_tvm.support.errors import UserError

ELASTIC = elastic_model(fixed_model("lite", EFFICIENTNET_LITE.network(EFFICIENTNET_LITE.largest)))[0]
EVERY = {**SPACES, "elastic model": ELASTIC}
every_space = pytest.mark.parametrize("space", EVERY.values(), ids=EVERY.keys())
quick = settings(max_examples=40, deadline=None)


def configs(space: SearchSpace) -> st.SearchStrategy[SubnetConfig]:
    def stage(number: int) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
        block = st.tuples(st.sampled_from(space.kernels_of(number)), st.sampled_from(space.expands_of(number)))
        depths = st.sampled_from(space.depths_of(number))
        return depths.flatmap(lambda depth: st.lists(block, min_size=depth, max_size=depth).map(tuple))

    stages = st.tuples(*map(stage, range(space.stages)))
    return st.builds(SubnetConfig, st.sampled_from(space.resolutions), stages)


any_config = st.sampled_from(list(EVERY.values())).flatmap(lambda space: st.tuples(st.just(space), configs(space)))


@pytest.mark.seconds(20)
@quick
@given(any_config)
def test_config_survives_every_form(pair):
    space, config = pair
    assert space.validate(config) == config
    assert SubnetConfig.parse(config.key) == config
    assert space.parse(config.key) == config
    assert space.config(space.genome(config)) == config
    assert from_ofa(space.to_ofa(config), space) == config


@pytest.mark.seconds(20)
@quick
@given(any_config, any_config)
def test_keys_and_genomes_are_equal_exactly_when_configs_are(first, second):
    (space, one), (other_space, other) = first, second
    assert (one.key == other.key) == (one == other)
    if space is other_space:
        assert np.array_equal(space.genome(one), space.genome(other)) == (one == other)


@pytest.mark.seconds(10)
@quick
@given(any_config)
def test_networks_are_well_formed(pair):
    space, config = pair
    network = space.network(config)
    shapes = {INPUT: (network.in_channels, network.resolution)}
    for layer in network.layers:
        assert shapes[layer.input] == (layer.in_channels, layer.in_size)
        assert layer.name not in shapes
        if layer.residual is not None:
            assert shapes[layer.residual] == (layer.out_channels, layer.out_size)
        shapes[layer.name] = (layer.out_channels, layer.out_size)
    assert (network.layers[-1].out_channels, network.resolution) == (space.classes, config.resolution)
    assert network.macs > 0


@every_space
@pytest.mark.parametrize("seed", [0, 1])
def test_genome_operations_stay_in_space_and_canonical(space, seed):
    rng = np.random.default_rng(seed)
    sampled = space.sample(rng, 64)
    mutated = space.mutate(rng, sampled, 0.2)
    crossed = space.cross(rng, sampled, mutated)
    for genomes in (sampled, mutated, crossed):
        assert genomes.dtype == np.int8 and genomes.shape == (64, len(space.gene_sizes))
        assert (genomes >= 0).all() and (genomes < space.gene_sizes).all()
        assert np.array_equal(space.canonical(genomes), genomes)
        for row in genomes:
            config = space.validate(space.config(row))
            assert np.array_equal(space.genome(config), row)
    assert np.array_equal(space.mutate(rng, sampled, 0.0), sampled)
    assert not np.array_equal(mutated, sampled)
    assert np.array_equal(space.sample(np.random.default_rng(seed), 64), sampled)


@every_space
def test_encoding_is_one_hot_for_active_blocks(space):
    genomes = space.sample(np.random.default_rng(0), 50)
    ones = space.encode(genomes).sum(axis=1)
    assert np.array_equal(ones, 1 + 2 * space.active_blocks(genomes).sum(axis=1))
    assert space.encode(genomes[:0]).shape == (0, space.encode(genomes).shape[1])


@every_space
def test_largest_and_smallest_bound_every_subnet(space):
    low, high = (space.network(config) for config in (space.smallest, space.largest))
    for config in space.sample_configs(np.random.default_rng(0), 20):
        network = space.network(config)
        assert low.macs <= network.macs <= high.macs
        assert low.parameters <= network.parameters <= high.parameters


def test_cardinality_by_enumeration(tiny_space):
    sizes = tiny_space.gene_sizes.astype(int)
    grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))
    canonical = tiny_space.canonical(grid.astype(np.int8)).astype(np.int64)
    ranks = np.unique(canonical @ np.concatenate([np.cumprod(sizes[:0:-1])[::-1], [1]]))
    assert len(ranks) == tiny_space.cardinality == 2 * (6 + 36) ** 2


def test_stages_with_fewer_blocks_and_smaller_kernels(tiny_space):
    space = replace(tiny_space, stage_blocks=(2, 1), stage_kernels=(3, 5))
    assert [space.depths_of(stage) for stage in (0, 1)] == [(1, 2), (1,)]
    assert [space.kernels_of(stage) for stage in (0, 1)] == [(3,), (3, 5)]
    assert space.cardinality == 2 * (2 + 4) * 4
    found = space.sample_configs(np.random.default_rng(0), 100)
    assert len(found) == space.cardinality
    assert space.largest.key == "r16.3x4-3x4.5x4"
    assert space.uniform(12, 1, 7, 2).key == "r12.3x2.5x2"
    assert replace(space, depth_choices=(2,)).smallest.key == "r12.3x2-3x2.3x2", "a stage of one block has no choice"
    for key, message in (
        ("r12.5x2.3x2", r"kernel 5 is not in \(3,\)"),
        ("r12.3x2.3x2-3x2", r"depth 2 is not in \(1,\)"),
    ):
        with pytest.raises(UserError, match=message):
            space.parse(key)
    assert space.to_ofa(space.smallest) == {"ks": [3, 3, 3], "e": [2, 2, 2], "d": [1, 1], "r": 12}


def test_distinct_samples_end_when_the_space_does(tiny_space):
    space = replace(tiny_space, resolutions=(16,), depth_choices=(1,), kernel_choices=(3,))
    found = space.sample_configs(np.random.default_rng(0), 100)
    assert len({config.key for config in found}) == len(found) == space.cardinality == 4


def test_mbv3_is_the_published_family():
    space = get_space("mbv3")
    assert isinstance(space, InvertedResidualSpace)
    assert [stage.width for stage in space.stage_plan] == [24, 40, 80, 112, 160]
    assert space.network(space.largest).parameters == 7_664_760
    assert space.cardinality == 25 * (9**2 + 9**3 + 9**4) ** 5
    config = from_ofa({"ks": [3, 5, 7, 3] * 5, "e": [3, 4, 6, 3] * 5, "d": [2, 3, 4, 2, 3], "r": [160]}, space)
    assert config.key == "r160.3x3-5x4.3x3-5x4-7x6.3x3-5x4-7x6-3x3.3x3-5x4.3x3-5x4-7x6"
    assert space.network(space.largest).layers[3].name == "block1_expand"


def test_efficientnet_lite_holds_the_published_network():
    space = get_space("efficientnet-lite")
    network = space.network(space.largest)
    assert (space.largest.depths, network.parameters, len(network.layers)) == ((2, 2, 3, 3, 4, 1), 4_652_008, 51)
    assert [layer.kernel_size for layer in network.layers if layer.kind == "depthwise"][1::2] == [
        3,
        5,
        3,
        3,
        5,
        5,
        5,
        3,
    ]
    shifted = [layer.name for layer in network.layers if layer.is_shifted]
    assert shifted == ["stem", "block1_depthwise", "block5_depthwise", "block9_depthwise", "block17_depthwise"]
    assert network.layers[0].pads == (0, 1)


@pytest.mark.parametrize("name", ["fused", "fused-cifar"])
def test_fused_blocks_are_two_wide_convolutions(name):
    space = get_space(name)
    layers = space.network(space.largest).layers
    blocks = [layer for layer in layers if layer.name.startswith("block")]
    assert [layer.name.partition("_")[2] for layer in blocks] == ["expand", "project"] * (len(blocks) // 2)
    assert {(layer.kind, layer.kernel_size) for layer in blocks} == {("conv", 5), ("conv", 1)}
    assert sum(layer.residual is not None for layer in blocks) == space.stages * (space.max_depth - 1)
    assert all(layer.out_channels % 16 == 0 for layer in layers[:-1]), "as tensor cores take them"


def test_widened_mbv3_has_the_widths_of_the_published_tables():
    space = get_space("mbv3-w1.2")
    assert isinstance(space, InvertedResidualSpace)
    assert (space.stem_width, space.first_width) == (24, 24)
    assert [stage.width for stage in space.stage_plan] == [32, 48, 96, 136, 192]
    assert (space.final_width, space.feature_mix_width) == (1152, 1536)
    layers = {layer.name: layer for layer in space.network(space.uniform(160, 4, 7, 3)).layers}
    assert (layers["block14_depthwise"].in_channels, layers["block14_depthwise"].in_size) == (408, 10)
    assert widened(MBV3_CIFAR, "wide", 2.0, (32,)).feature_mix_width == 0


def test_with_classes_changes_the_classifier_only(tiny_space):
    before, after = (space.network(space.largest) for space in (tiny_space, tiny_space.with_classes(9)))
    assert before.layers[:-1] == after.layers[:-1]
    assert after.layers[-1].out_channels == after.classes == 9


@pytest.mark.parametrize(("value", "rounded"), [(16, 16), (18, 24), (1, 8), (20, 24), (35, 32), (36, 40)])
def test_make_divisible(value, rounded):
    assert make_divisible(value) == rounded


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a subnet key"),
        ("r32", "not a subnet key"),
        ("r32.3x2-", "not a subnet key"),
        pytest.param("r" + "9" * 5000 + ".3x2", "not a subnet key", id="digits"),
        pytest.param("r32.7x" + "9" * 5000, "not a subnet key", id="more digits"),
        ("r33.3x2-3x2.3x2-3x2.3x2-3x2", "resolution 33"),
        ("r32.3x2-3x2.3x2-3x2", "has 3 stages"),
        ("r32.3x2-3x2.3x2-3x2.3x2", "depth 1"),
        ("r32.3x2-3x2.9x2-3x2.3x2-3x2", "stage 2 .* kernel 9"),
        ("r32.3x2-3x2.3x2-3x2.3x2-3x5", "stage 3 .* expand 5"),
    ],
)
def test_bad_keys_say_what_is_wrong(text, said):
    with pytest.raises(UserError, match=said):
        get_space("mbv3-cifar").parse(text)


def test_unknown_space_lists_the_known():
    with pytest.raises(UserError, match="mbv3-cifar"):
        get_space("mbv4")


@pytest.mark.parametrize(
    "change", [{"ks": None}, {"e": [2] * 8}, {"d": ["x", 2, 2]}, {"d": [4, 2, 2]}, {"r": []}, {"r": 31}]
)
def test_bad_ofa_configs_are_user_errors(change):
    space = get_space("mbv3-cifar")
    with pytest.raises(UserError):
        from_ofa({**space.to_ofa(space.largest), **change}, space)
    with pytest.raises(UserError, match="'ks' is missing"):
        from_ofa({}, space)
