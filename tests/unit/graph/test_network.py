"""Counts of a network small enough to count by hand."""

from __future__ import annotations

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import digest, random_weights, weight_shapes

# 8x8x3 -> conv 3x3/2 to 4 -> depthwise 3x3 -> squeeze-excite (hidden 8) -> 1x1 conv + residual -> pool -> linear
LAYERS = (
    LayerSpec("a", "conv", INPUT, 3, 4, 8, kernel_size=3, stride=2, activation="relu", norm=True),
    LayerSpec("b", "depthwise", "a", 4, 4, 4, kernel_size=3, activation="relu", norm=True),
    LayerSpec("c", "squeeze_excite", "b", 4, 4, 4, hidden_channels=8),
    LayerSpec("d", "conv", "c", 4, 4, 4, norm=True, residual="a"),
    LayerSpec("e", "global_pool", "d", 4, 4, 4),
    LayerSpec("f", "linear", "e", 4, 10, 1, bias=True),
)
NETWORK = NetworkSpec(8, 3, 10, LAYERS)


def test_out_sizes():
    assert [layer.out_size for layer in LAYERS] == [4, 4, 4, 4, 1, 1]
    odd = LayerSpec("x", "depthwise", INPUT, 3, 3, 7, kernel_size=5, stride=2)
    assert odd.out_size == 4


def test_macs():
    assert [layer.macs for layer in LAYERS] == [16 * 9 * 3 * 4, 16 * 9 * 4, 2 * 4 * 8, 16 * 4 * 4, 0, 40]
    assert NETWORK.macs == 1728 + 576 + 64 + 256 + 40


def test_parameters():
    assert [layer.parameters for layer in LAYERS] == [108 + 8, 36 + 8, 64 + 8 + 4, 16 + 8, 0, 40 + 10]
    assert NETWORK.parameters == 116 + 44 + 76 + 24 + 50
    folded = sum(array.size for array in random_weights(NETWORK).values())
    assert NETWORK.parameter_bytes == 4 * folded == 4 * (NETWORK.parameters - 3 * 4)


def test_last_use():
    assert NETWORK.last_use == {INPUT: 0, "a": 3, "b": 2, "c": 3, "d": 4, "e": 5, "f": 5}


def test_peak_activation():
    # The first layer has 8*8*3 + 4*4*4 numbers alive; the residual keeps three maps of 64 alive in "c" and "d".
    assert NETWORK.peak_activation_bytes == 4 * max(192 + 64, 3 * 64)


def test_residual_keeps_its_tensor_alive():
    narrow = (
        LayerSpec("a", "conv", INPUT, 1, 4, 4),
        LayerSpec("b", "conv", "a", 4, 4, 4),
        LayerSpec("c", "conv", "b", 4, 4, 4, residual="a"),
    )
    assert NetworkSpec(4, 1, 4, narrow).peak_activation_bytes == 4 * 3 * 64
    plain = (*narrow[:2], LayerSpec("c", "conv", "b", 4, 4, 4))
    assert NetworkSpec(4, 1, 4, plain).peak_activation_bytes == 4 * 2 * 64


def test_weight_shapes_and_digest():
    assert weight_shapes(LAYERS[1]) == {"b.weight": (4, 1, 3, 3), "b.bias": (4,)}
    assert weight_shapes(LAYERS[4]) == {}
    weights = random_weights(NETWORK, seed=1)
    assert {name: array.shape for name, array in weights.items()} == {
        name: shape for layer in LAYERS for name, shape in weight_shapes(layer).items()
    }
    assert digest(weights) == digest(dict(reversed(random_weights(NETWORK, seed=1).items())))
    assert digest(weights) != digest(random_weights(NETWORK, seed=2))
    weights["f.bias"][3] += 1
    assert digest(weights) != digest(random_weights(NETWORK, seed=1))
