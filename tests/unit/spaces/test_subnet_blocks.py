"""Subnets block by block."""

from __future__ import annotations

import pytest

from ofa_tvm.spaces import SPACES, SubnetConfig
from ofa_tvm.spaces.subnet_blocks import block_name, subnet_blocks


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("which", ["smallest", "largest"])
def test_blocks_hold_every_layer_in_order(name, which):
    space = SPACES[name]
    config: SubnetConfig = getattr(space, which)
    blocks, network = subnet_blocks(space, config), space.network(config)
    assert sum(block.macs for block in blocks) == network.macs
    assert [kind for block in blocks for kind in block.kinds] == [layer.kind for layer in network.layers]
    elastic = [block for block in blocks if block.choice is not None]
    assert [block.choice for block in elastic] == [
        config.stages[block.stage - 1][block.position - 1] for block in elastic
    ]
    assert [block.stage for block in elastic] == sorted(block.stage for block in elastic)


@pytest.mark.parametrize(
    ("layer", "block"),
    [("block12_project", "block12"), ("features.block3_0_conv", "features.block3"), ("stem", "stem"), ("pool", "pool")],
)
def test_the_name_of_a_layer_says_its_block(layer, block):
    assert block_name(layer) == block
