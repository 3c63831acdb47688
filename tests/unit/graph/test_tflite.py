"""The .tflite file of a network computes what the network does, in float32 and in int8, where LiteRT is installed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ofa_tvm.engines import ENGINES
from ofa_tvm.engines.base import calibration_images
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.graph.tflite_export import same_pads, to_tflite
from ofa_tvm.graph.tflite_file import Levels
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.support.errors import UserError

INT8_ERROR = 0.1
MOBILE = (
    LayerSpec("stem", "conv", INPUT, 3, 8, 16, 3, 2, "hard_swish", norm=True),
    LayerSpec("deep", "depthwise", "stem", 8, 8, 8, 3, activation="relu", norm=True),
    LayerSpec("gate", "squeeze_excite", "deep", 8, 8, 8, hidden_channels=8),
    LayerSpec("thin", "conv", "gate", 8, 8, 8, norm=True, residual="stem"),
    LayerSpec("wide", "conv", "thin", 8, 16, 8, activation="hard_swish", norm=True),
    LayerSpec("less", "depthwise", "wide", 16, 16, 8, 5, 2, "hard_swish", norm=True),
    LayerSpec("scale", "squeeze_excite", "less", 16, 16, 4, hidden_channels=8),
    LayerSpec("out", "conv", "scale", 16, 16, 4, activation="relu", norm=True),
    LayerSpec("mean", "global_pool", "out", 16, 16, 4),
    LayerSpec("mix", "conv", "mean", 16, 24, 1, activation="hard_swish", bias=True),
    LayerSpec("logits", "linear", "mix", 24, 10, 1, bias=True),
)
OTHERS = (
    LayerSpec("stem", "conv", INPUT, 3, 8, 16, 3, 2, "relu6", norm=True, padding="tensorflow"),
    LayerSpec("deep", "depthwise", "stem", 8, 8, 8, 5, 2, "silu", norm=True, padding="tensorflow"),
    LayerSpec("part", "conv", "deep", 8, 8, 4, 3, activation="relu", norm=True, groups=2),
    LayerSpec("most", "max_pool", "part", 8, 8, 4, 3, 2),
    LayerSpec("full", "conv", "most", 8, 8, 2, activation="hard_sigmoid", norm=True),
    LayerSpec("sum", "conv", "full", 8, 8, 2, activation="hard_swish", norm=True, residual="most"),
    LayerSpec("gate", "squeeze_excite", "sum", 8, 8, 2, hidden_channels=4, hidden_activation="silu", gate="sigmoid"),
    LayerSpec("thin", "conv", "gate", 8, 6, 2, norm=True),
    LayerSpec("logits", "linear", "thin", 6, 10, 2),
)
NETWORKS = {"mobile": NetworkSpec(16, 3, 10, MOBILE), "others": NetworkSpec(16, 3, 10, OTHERS)}


@pytest.fixture
def package():
    """LiteRT."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_logits_are_those_of_the_network(package, network):
    weights, images = random_weights(network), calibration_images(network)[:1]
    expected = network_logits(network, weights, images)
    for name, bound in (("litert", 1e-4), ("litert-int8", INT8_ERROR)):
        engine = ENGINES[name]()
        call = engine.prepare(network, weights, 1)
        assert relative_error(call(images), expected) < bound, name
        assert relative_error(call(images), expected) < bound, "an inference spoils the image for the next one"


@pytest.mark.parametrize("name", ["litert", "litert-int8"])
def test_all_of_a_mobile_network_is_xnnpacks(package, name, capfd):
    engine, network = ENGINES[name](), NETWORKS["mobile"]
    assert "whole graph" not in engine.record()["settings"]
    engine.prepare(network, random_weights(network), 1)
    assert engine.record()["settings"].endswith("NHWC, which runs the whole graph")
    assert engine.record()["precision"] == ("int8" if name == "litert-int8" else "float32")
    assert capfd.readouterr().err == ""


def test_int8_weights_are_a_quarter(package, tmp_path):
    network = NetworkSpec(4, 512, 512, (LayerSpec("only", "conv", INPUT, 512, 512, 4, bias=True, activation="relu"),))
    sizes = [
        ENGINES[name]().build(network, random_weights(network), 1, tmp_path).stat().st_size
        for name in ("litert", "litert-int8")
    ]
    assert sizes[0] > 4 * 512**2 > 3.5 * sizes[1]


def test_zeros_that_tensorflow_cannot_add_are_refused(package):
    layers = (LayerSpec("most", "max_pool", INPUT, 3, 3, 16, 3, 2), LayerSpec("l", "linear", "most", 3, 10, 8))
    network = NetworkSpec(16, 3, 10, layers)
    with pytest.raises(UserError, match="most: TensorFlow Lite has no max_pool"):
        to_tflite(network, random_weights(network))


@pytest.mark.parametrize("size", [7, 8, 14, 15])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_tensorflows_padding_is_same(size, kernel, stride):
    layer = LayerSpec("x", "depthwise", INPUT, 3, 3, size, kernel, stride, padding="tensorflow")
    if kernel > 1:
        assert layer.pads == same_pads(layer)
    centred = replace(layer, padding="centred")
    assert (centred.pads == same_pads(centred)) == (kernel == 1 or stride == 1 or size % 2 == 1)


def test_levels_hold_zero_and_both_ends():
    assert Levels.of(0.0, 255.0) == Levels(1.0, -128)
    assert Levels.of(2.0, 51.0) == Levels(0.2, -128)
    assert Levels.of(-128.0, 127.0) == Levels(1.0, 0)
    assert Levels.of(-255.0, -1.0) == Levels(1.0, 127)
    assert Levels.of(0.0, 0.0).scale > 0
