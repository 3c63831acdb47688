"""int8 networks with some layers in float32."""

from typing import Any

import numpy as np
import pytest
from tiny import space

from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.mixed import MARK, kept_in_float32, kept_layers, network_steps, units
from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.graph.numpy_reference import compute, network_logits
from ofa_tvm.graph.quantisation import cpu_dtype_of, quantised_tensors, scale_arrays, untrained_weights
from ofa_tvm.graph.weights import digest

NETWORK = space().network(space().parse("r12.5x4.3x2-7x4"))
CONVERSIONS = ("quantise", "dequantise")


@pytest.fixture(scope="module")
def weights():
    """Scales that are wide enough."""
    found = untrained_weights(NETWORK, "int8")
    for tensor in quantised_tensors(NETWORK):
        found |= scale_arrays(tensor, np.full(tensor.channels, -20.0), np.full(tensor.channels, 20.0))
    return found


def conversions(weights, network=NETWORK):
    steps = network_steps(network, weights)
    return [(step.kernel.kind, step.reads[0]) for step in steps if step.kernel.kind in CONVERSIONS]


def test_units_are_blocks():
    assert [(unit[0], unit[-1]) for unit in units(NETWORK)] == [
        ("stem", "stem"),
        ("block0_depthwise", "block0_project"),
        ("block1_expand", "block1_project"),
        ("block3_expand", "block3_project"),
        ("block4_expand", "block4_project"),
        ("final_expand", "classifier"),
    ]
    assert [name for unit in units(NETWORK) for name in unit] == [layer.name for layer in NETWORK.layers]


def test_chains_of_depthwise_convolutions_are_not_one_unit():
    """As in MobileNetV1: each 1x1 convolution is fused with the depthwise behind it."""
    layers, size = [LayerSpec("stem", "conv", "input", 3, 8, 8, kernel_size=3, activation="relu")], 8
    for number in range(3):
        before = layers[-1].name
        layers.append(LayerSpec(f"dw{number}", "depthwise", before, 8, 8, size, kernel_size=3, activation="relu"))
        layers.append(LayerSpec(f"pw{number}", "conv", f"dw{number}", 8, 8, size, activation="relu"))
    layers.append(LayerSpec("pool", "global_pool", "pw2", 8, 8, size))
    layers.append(LayerSpec("classifier", "linear", "pool", 8, 4, 1, norm=False, bias=True))
    found = units(NetworkSpec(8, 3, 4, tuple(layers)))
    assert found == (
        ("stem",),
        ("dw0",),
        ("pw0", "dw1"),
        ("pw1", "dw2", "pw2", "pool", "classifier"),
    )


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("stem", [("quantise", "stem")]),
        ("block1_project", [("dequantise", "block0_project"), ("quantise", "block1_project")]),
        # block4 adds what it reads: it reads levels twice, but they are made once.
        ("block3_se", [("dequantise", "block1_project"), ("quantise", "block3_project")]),
        ("block4_expand", [("dequantise", "block3_project"), ("quantise", "block4_project")]),
        ("classifier", [("dequantise", "block4_project")]),
    ],
)
def test_conversions_stand_where_types_meet(weights, kept, expected):
    mixed = kept_in_float32(NETWORK, weights, [kept])
    (unit,) = (unit for unit in units(NETWORK) if kept in unit)
    assert (kept_layers(mixed), cpu_dtype_of(mixed)) == (frozenset(unit), "int8")
    assert conversions(mixed) == expected
    written = {"input"}
    for step in network_steps(NETWORK, mixed):
        assert written.issuperset(step.reads)
        written.update(step.writes)
        if step.kernel.kind not in CONVERSIONS:
            assert (step.kernel.dtype == "float32") == (step.layers[0] in unit)


def test_neighbours_in_float32_need_no_conversion_between_them(weights):
    mixed = kept_in_float32(NETWORK, weights, ["block1_project", "block3_project"])
    assert conversions(mixed) == [("dequantise", "block0_project"), ("quantise", "block3_project")]


def test_scales_that_nothing_reads_are_left_out(weights):
    mixed = kept_in_float32(NETWORK, weights, ["block3_se"])
    left_out = {name.removesuffix(".scale") for name in weights.keys() - mixed.keys() if name.endswith(".scale")}
    inside = {"block3_expand", "block3_depthwise", "block3_depthwise.sums", "block3_se", "block3_se.hidden"}
    assert left_out == inside
    assert {name for name in mixed if name.endswith(MARK)} == {
        f"block3_{part}{MARK}" for part in ("expand", "depthwise", "se", "project")
    }
    assert digest(mixed) != digest(weights)


def test_a_network_wholly_in_float32_is_one(weights):
    mixed = kept_in_float32(NETWORK, weights, [layer.name for layer in NETWORK.layers])
    assert cpu_dtype_of(mixed) == "float32"
    assert network_steps(NETWORK, mixed) == fused_steps(NETWORK)


def test_logits_come_nearer_the_more_is_float32(weights):
    images = np.random.default_rng(0).standard_normal((3, 12, 12, 3)).astype(np.float32)
    exact = network_logits(NETWORK, untrained_weights(NETWORK, "float32"), images)
    blocks = [unit[0] for unit in units(NETWORK)]
    errors = [
        np.abs(network_logits(NETWORK, kept_in_float32(NETWORK, weights, blocks[:count]), images) - exact).max()
        for count in (0, 5, 6)
    ]
    assert errors[0] > errors[1] > errors[2] == 0


def test_conversions_are_inverse_up_to_rounding():
    scale, zero = np.array([[0.5, 0.25, 2, 1], [0, 10, 128, 255]], np.float32)
    levels: Any = np.arange(256, dtype=np.uint8).repeat(4).reshape(1, 16, 16, 4)
    spec = KernelSpec("dequantise", 4, 4, 16, dtype="int8")
    (numbers,) = compute(spec, [levels, np.stack([scale, zero])])
    assert numbers.dtype == np.float32
    assert numbers[0, 0, 10].tolist() == [5, 0, -236, -245]
    back = KernelSpec("quantise", 4, 4, 16, dtype="int8")
    inputs = np.stack([1 / scale, zero])
    (again,) = compute(back, [numbers, inputs])
    np.testing.assert_array_equal(again, levels)
    (saturated,) = compute(back, [numbers * 1e6, inputs])
    assert set(np.unique(saturated)) == {0, 10, 128, 255}
