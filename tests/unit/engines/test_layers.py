"""Nodes of other engines find our layers, and layers their blocks."""

from __future__ import annotations

import pytest

from ofa_tvm.engines.base import NodeTime, median_times
from ofa_tvm.engines.layers import BETWEEN, blocks_of, by_block
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.network import INPUT
from ofa_tvm.graph.onnx_export import layer_of, node_layers
from ofa_tvm.graph.weights import random_weights

OWNERS = {
    "image": INPUT,
    "stem/Conv_0": "stem",
    "stem.step1": "stem",
    "block1_expand": "block1_expand",
    "block1_expand_2": "block1_expand_2",
    "logits": "classifier",
}


@pytest.mark.parametrize(
    ("node", "layer"),
    [
        ("stem/Conv_0", "stem"),
        ("stem.step1_nchwc", "stem"),
        ("fused stem/Conv_0", "stem"),
        ("stem/Conv_0/WithoutBiases", "stem"),
        ("image_abcd_acdb_stem/Conv_0/WithoutBiases", INPUT),
        ("block1_expand_nchwc", "block1_expand"),
        ("block1_expand_2_nchwc", "block1_expand_2"),
        ("logits", "classifier"),
        ("logits_quant", "classifier"),
        ("ReorderOutput_token_131", None),
        ("ReorderInput", None),
        ("", None),
        ("_._", None),
    ],
)
def test_a_node_finds_its_layer_under_the_names_that_engines_give_it(node, layer):
    assert layer_of(node, OWNERS) == layer


def test_every_layer_owns_a_node_and_every_name_is_its_own(tiny_space):
    network = tiny_space.network(tiny_space.largest)
    owners = node_layers(network, random_weights(network))
    assert set(owners.values()) == {INPUT, *(layer.name for layer in network.layers)}
    assert owners["logits"] == network.layers[-1].name


def test_blocks_are_residual_blocks_and_whatever_else_is_one_kernel(tiny_space):
    network = tiny_space.network(tiny_space.largest)
    blocks = blocks_of(step.layers for step in fused_steps(network))
    assert blocks.keys() == {layer.name for layer in network.layers}
    assert blocks["block1_expand"] == blocks["block1_project"] == "block1"
    assert blocks["stem"] == "stem"
    others = blocks_of([("a", "b"), ("c",), ("b", "d")])
    assert others == {"a": "a", "b": "a", "c": "c", "d": "a"}


def test_times_are_added_by_block_and_what_is_of_no_layer_stands_apart():
    times = [NodeTime("stem/Conv_0", "Conv", 3.0), NodeTime("stem.step1", "Clip", 1.0), NodeTime("Reorder", "R", 2.0)]
    times.append(NodeTime("image_abcd_stem", "Reorder", 4.0))
    assert by_block(times, OWNERS, {"stem": "stem"}) == {"stem": 4.0, BETWEEN: 6.0}


def test_a_nodes_time_is_the_median_of_its_later_runs():
    (node,) = median_times({("n", "Conv"): [1000.0, 1000.0, *[5.0] * 17, 9.0]})
    assert (node.name, node.operator, node.microseconds) == ("n", "Conv", 5.0)
    assert median_times({("n", "Conv"): [7.0]})[0].microseconds == 7.0
