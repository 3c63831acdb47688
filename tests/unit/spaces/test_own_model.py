"""Models that somebody brought: alone, and what can be cut out of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.spaces import EFFICIENTNET_LITE, MBV3, MBV3_CIFAR, OwnModel, own_model
from ofa_tvm.spaces.own_model import elastic_model, fixed_model
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


def test_a_model_without_such_blocks_cannot_be_cut():
    stem = LayerSpec("stem", "conv", INPUT, 3, 8, 8, 3)
    pool = LayerSpec("pool", "global_pool", "stem", 8, 8, 8)
    head = LayerSpec("head", "linear", "pool", 8, 4, 1, bias=True)
    with pytest.raises(UserError, match="no inverted residual blocks"):
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
    elastic, _ = elastic_model(fixed_model("net", EFFICIENTNET_LITE.network(EFFICIENTNET_LITE.largest)))
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
