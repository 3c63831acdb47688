"""Models that somebody brought: alone, and what can be cut out of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.spaces import EFFICIENTNET_LITE, MBV3, MBV3_CIFAR, OwnModel, own_model
from ofa_tvm.spaces.own_model import elastic_model, fixed_model
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.errors import UserError


def renamed(network: NetworkSpec) -> NetworkSpec:
    """With names that mean nothing."""
    names = {layer.name: f"layer{number}" for number, layer in enumerate(network.layers)} | {INPUT: INPUT}
    layers = [
        replace(
            layer,
            name=names[layer.name],
            input=names[layer.input],
            residual=None if layer.residual is None else names[layer.residual],
        )
        for layer in network.layers
    ]
    return replace(network, layers=tuple(layers))


@pytest.fixture(params=[MBV3, MBV3_CIFAR, EFFICIENTNET_LITE], ids=lambda space: space.name)
def fixed(request: pytest.FixtureRequest) -> OwnModel:
    space = request.param
    return fixed_model("net", renamed(space.network(space.largest)))


def test_a_model_alone_is_a_space_of_one(fixed):
    assert fixed.cardinality == 1
    assert fixed.network(fixed.largest) == fixed.model
    assert own_model(fixed.own) == fixed


def test_the_largest_subnet_of_an_elastic_model_is_the_model(fixed):
    elastic, names = elastic_model(fixed)
    assert own_model(elastic.own) == elastic
    found, expected = elastic.network(elastic.largest), fixed.model
    assert (found.macs, found.resolution, found.classes) == (expected.macs, expected.resolution, expected.classes)
    for layer, original in zip(found.layers, expected.layers, strict=True):
        assert layer.name == names.get(original.name, original.name)
        kept = replace(layer, name=original.name, input=original.input, residual=original.residual)
        assert replace(kept, norm=original.norm, bias=original.bias) == original


def test_stages_are_those_of_the_family():
    elastic, _ = elastic_model(fixed_model("net", renamed(EFFICIENTNET_LITE.network(EFFICIENTNET_LITE.largest))))
    assert elastic.stage_blocks == EFFICIENTNET_LITE.stage_blocks
    assert elastic.stage_kernels == EFFICIENTNET_LITE.stage_kernels
    smallest = elastic.network(elastic.smallest)
    assert smallest.macs < 0.1 * elastic.network(elastic.largest).macs


def test_other_classes_change_the_last_layer_alone(fixed):
    other = fixed.with_classes(7)
    assert other.name == fixed.name
    assert other.model.layers[:-1] == fixed.model.layers[:-1]
    assert (other.classes, other.model.classes, other.model.layers[-1].out_channels) == (7, 7, 7)


def residual_network(kind: str) -> NetworkSpec:
    """A network of one stem, two residual blocks of a kind, the first with a convolution as shortcut, and a head.

    Args:
        kind: ``basic``, ``bottleneck``, ``grouped``, ``fused``.
    """
    layers = [LayerSpec("stem", "conv", INPUT, 3, 16, 16, 3, activation="relu", bias=True)]
    for number, width in enumerate((32, 32)):
        source, stride = layers[-1], 2 - number
        before, size = source.out_channels, source.out_size
        shortcut = source.name
        if number == 0:
            shortcut = "shortcut"
            layers.append(LayerSpec(shortcut, "conv", source.name, before, width, size, 1, stride, bias=True))
        names = [f"{part}{number}" for part in "abc"]
        small = size // stride
        match kind:
            case "basic":
                inner = [LayerSpec(names[0], "conv", source.name, before, 24, size, 3, stride, "relu", bias=True)]
            case "fused":
                inner = [LayerSpec(names[0], "conv", source.name, before, 96, size, 3, stride, "silu", bias=True)]
            case _:
                groups = 4 if kind == "grouped" else 1
                inner = [
                    LayerSpec(names[0], "conv", source.name, before, 64, size, activation="relu", bias=True),
                    LayerSpec(names[1], "conv", names[0], 64, 64, size, 3, stride, "relu", bias=True, groups=groups),
                ]
        last = inner[-1]
        if kind == "grouped":
            inner.append(LayerSpec(f"se{number}", "squeeze_excite", last.name, 64, 64, small, hidden_channels=16))
        end = 3 if kind == "basic" else 1
        project = LayerSpec(names[2], "conv", inner[-1].name, last.out_channels, width, small, end, bias=True)
        if kind != "fused" or number == 1:
            project = replace(project, residual=shortcut, activation="none" if kind == "fused" else "relu")
        elif shortcut != source.name:
            layers.pop()
        layers += [*inner, project]
        if kind == "bottleneck" and number == 0:  # as a graph gives it whose shortcut comes last
            beside = replace(layers.pop(-4), residual=project.name, activation="relu")
            layers = [*layers[:-1], replace(project, residual=None, activation="none"), beside]
    layers.append(LayerSpec("pool", "global_pool", layers[-1].name, 32, 32, 8))
    layers.append(LayerSpec("head", "linear", "pool", 32, 5, 1, bias=True))
    return NetworkSpec(16, 3, 5, tuple(layers))


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "grouped", "fused"])
def test_residual_blocks_can_be_cut(kind):
    fixed = fixed_model(kind, residual_network(kind))
    elastic, _ = elastic_model(fixed)
    assert own_model(elastic.own) == elastic
    assert elastic.stage_blocks == (2,)
    assert elastic.kernel_choices == (3,)
    assert elastic.network(elastic.largest).macs == fixed.model.macs
    for depth, share in ((2, 50), (2, 75), (1, 50)):
        network = elastic.network(elastic.uniform(16, depth, 3, share))
        fixed_model("cut", network)  # see test_subnets_of_residual_networks_fit
        hidden = next(layer for layer in network.layers if layer.name == "block1_expand").out_channels
        whole = next(layer for layer in fixed.model.layers if layer.name == "a0").out_channels
        assert hidden == {50: {24: 16}.get(whole, whole // 2), 75: {24: 24}.get(whole, whole * 3 // 4)}[share]
        blocks = {layer.name.partition("_")[0] for layer in network.layers if layer.name.startswith("block")}
        assert blocks == {f"block{number}" for number in range(1, depth + 1)}


@pytest.mark.parametrize("kind", ["basic", "bottleneck", "grouped", "fused"])
def test_subnets_of_residual_networks_fit(kind):
    elastic, _ = elastic_model(fixed_model(kind, residual_network(kind)))
    for config in elastic.sample_configs(np.random.default_rng(0), 20):
        network = elastic.network(config)
        assert own_model(fixed_model("cut", network).own).model == network
        for layer in network.layers:
            assert layer.in_channels % layer.groups == layer.out_channels % layer.groups == 0


def test_groups_stay_as_wide_as_they_were():
    elastic, _ = elastic_model(fixed_model("grouped", residual_network("grouped")))
    network = elastic.network(elastic.uniform(16, 2, 3, 75))
    middle = next(layer for layer in network.layers if layer.name == "block2_middle")
    assert (middle.groups, middle.in_channels, middle.out_channels) == (3, 48, 48)


def test_a_model_without_such_blocks_cannot_be_cut():
    stem = LayerSpec("stem", "conv", INPUT, 3, 8, 8, 3)
    pool = LayerSpec("pool", "global_pool", "stem", 8, 8, 8)
    head = LayerSpec("head", "linear", "pool", 8, 4, 1, bias=True)
    with pytest.raises(UserError, match="no residual blocks that can be cut"):
        elastic_model(fixed_model("plain", NetworkSpec(8, 3, 4, (stem, pool, head))))


@pytest.mark.parametrize(
    ("name", "value"), [("stride", 0), ("in_size", -4), ("out_channels", 10**9), ("input", "nope"), ("groups", 0)]
)
def test_a_network_that_cannot_be_is_refused(name, value):
    space = fixed_model("net", MBV3_CIFAR.network(MBV3_CIFAR.smallest))
    title, most, sizes, record = json.loads(space.own)
    record["layers"][2][name] = value
    with pytest.raises(UserError, match="damaged"):
        own_model(json.dumps([title, most, sizes, record]))
    with pytest.raises(UserError, match="damaged"):
        own_model(json.dumps(["../evil", most, sizes, record]))


def test_a_training_has_its_sizes_alone():
    elastic, _ = elastic_model(fixed_model("net", renamed(EFFICIENTNET_LITE.network(EFFICIENTNET_LITE.largest))))
    assert 104 not in elastic.resolutions
    assert elastic.trained_at([104, 128]).resolutions == (104, 128)
    for size in (100, 8, 232):
        with pytest.raises(UserError, match="none that"):
            elastic.trained_at([size])
    few = elastic.trained_at([128, 96])
    assert few.resolutions == (96, 128)
    assert few.name == f"{elastic.name}-96-128"
    assert own_model(few.own) == few


@pytest.mark.parametrize(
    "text", ["", "[]", '["own-x", 0, {}]', '["own-x", 3, {"resolution": 8}]', "null", "[1, 2]", "[" * 10**5]
)
def test_a_damaged_description_is_refused(text):
    with pytest.raises(UserError, match="damaged"):
        own_model(text)


def conv(name: str, source: str, channels: tuple[int, int], size: int = 16, residual: str | None = None) -> LayerSpec:
    inputs, outputs = channels
    return LayerSpec(name, "conv", source, inputs, outputs, size, 3, activation="relu", bias=True, residual=residual)


def headed(*layers: LayerSpec) -> NetworkSpec:
    last = layers[-1]
    pool = LayerSpec("pool", "global_pool", last.name, last.out_channels, last.out_channels, last.out_size)
    head = LayerSpec("head", "linear", "pool", last.out_channels, 5, 1, bias=True)
    return NetworkSpec(16, 3, 5, (*layers, pool, head))


def test_a_block_whose_input_others_read_is_never_left_out():
    stem = conv("stem", INPUT, (3, 16))
    first = conv("a1", "stem", (16, 8)), conv("a2", "a1", (8, 16), residual="stem")
    second = conv("b1", "a2", (16, 8)), conv("b2", "b1", (8, 16), residual="a2")
    later = conv("c1", "b2", (16, 16)), conv("c2", "c1", (16, 16), residual="a2")
    elastic, _ = elastic_model(fixed_model("skip", headed(stem, *first, *second, *later)))
    assert elastic.stage_blocks == (1, 1)
    SubnetTable(elastic)


def test_a_block_in_whose_midst_others_run_stays_as_it_is():
    stem = conv("stem", INPUT, (3, 16))
    layers = (conv("a", "stem", (16, 64)), conv("c", "stem", (16, 128)), conv("d", "c", (128, 16)))
    end = (conv("b", "a", (64, 16), residual="stem"), conv("e", "b", (16, 16), residual="d"))
    with pytest.raises(UserError, match="no residual blocks that can be cut"):
        elastic_model(fixed_model("between", headed(stem, *layers, *end)))


def test_long_stages_begin_anew():
    layers = [conv("stem", INPUT, (3, 16))]
    for number in range(20):
        before = layers[-1].name
        inner = conv(f"a{number}", before, (16, 8))
        layers += [inner, conv(f"b{number}", inner.name, (8, 16), residual=before)]
    elastic, _ = elastic_model(fixed_model("long", headed(*layers)))
    assert elastic.stage_blocks == (16, 4)
    assert elastic.genome(elastic.largest).max() == 15


@pytest.mark.parametrize(("size", "sizes"), [(16, {16}), (28, {16, 24, 28}), (300, {128, 152, 168, 216, 256, 300})])
def test_no_subnet_is_larger_than_the_model(size, sizes):
    stem = conv("stem", INPUT, (3, 16), size)
    inner = conv("a", "stem", (16, 8), size)
    network = replace(headed(stem, inner, conv("b", "a", (8, 16), size, "stem")), resolution=size)
    elastic, _ = elastic_model(fixed_model("sized", network))
    assert set(elastic.resolutions) == sizes
    assert elastic.network(elastic.largest).macs == network.macs


def test_maps_keep_at_least_the_size_of_their_windows():
    stem = conv("stem", INPUT, (3, 16), 32)
    block = conv("a", "stem", (16, 8), 32), conv("b", "a", (8, 16), 32, "stem")
    pool = LayerSpec("shrink", "max_pool", "b", 16, 16, 32, 4, 4, padding="none")
    window = LayerSpec("window", "conv", "shrink", 16, 16, 8, 5, padding="none", bias=True)
    elastic, _ = elastic_model(fixed_model("unpadded", replace(headed(stem, *block, pool, window), resolution=32)))
    assert elastic.resolutions == (24, 32)
    flat = LayerSpec("head", "linear", "shrink", 16, 5, 8, bias=True)
    elastic, _ = elastic_model(fixed_model("flat", NetworkSpec(32, 3, 5, (stem, *block, pool, flat))))
    assert elastic.resolutions == (32,)
