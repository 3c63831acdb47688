"""What a subnet is made of, block by block: for drawings, and to add up what its layers cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces.block_table import block_number
from ofa_tvm.spaces.space import SearchSpace, SubnetConfig

_BLOCK = re.compile(r"(.*?block\d+)_")


@dataclass(frozen=True)
class Block:
    """Consecutive layers of one block, or one layer outside of blocks.

    Args:
        name: what the names of its layers begin with, see ``block_name``.
        kinds: of its layers.
        kernel: largest window in pixels.
        in_channels: of the map that it reads.
        hidden_channels: of its widest map.
        out_channels: of the map that it gives.
        in_size: height of the map that it reads, in pixels.
        out_size: height of the map that it gives, in pixels.
        macs: multiply-accumulates of one image.
        stage: number of its elastic stage, from 1; 0 for what is not elastic.
        position: in its stage, from 1; 0 for what is not elastic.
        choice: kernel size and expand ratio as the subnet's key has them; None for what is not elastic.
    """

    name: str
    kinds: tuple[str, ...]
    kernel: int
    in_channels: int
    hidden_channels: int
    out_channels: int
    in_size: int
    out_size: int
    macs: int
    stage: int = 0
    position: int = 0
    choice: tuple[int, int] | None = None


def block_name(layer: str) -> str:
    """Name of the block that a layer belongs to, from its name; the layer's own outside of blocks."""
    match = _BLOCK.match(layer)
    return match.group(1) if match else layer


def block_of_call(layers: tuple[str, ...]) -> str:
    """Name of the block that a call belongs to which computes these layers: that of the first."""
    return block_name(layers[0])


def subnet_blocks(space: SearchSpace, config: SubnetConfig) -> tuple[Block, ...]:
    """The blocks of a subnet in the order in which they run."""
    layers = space.network(config).layers
    return tuple(
        _block(space, config, name, tuple(group))
        for name, group in groupby(layers, lambda layer: block_name(layer.name))
    )


def _block(space: SearchSpace, config: SubnetConfig, name: str, layers: tuple[LayerSpec, ...]) -> Block:
    stage, position, choice = 0, 0, None
    if number := block_number(space, layers[0].name):
        before, place = divmod(number - 1, space.max_depth)
        stage, position = before + 1, place + 1
        choices = config.stages[before]
        choice = choices[place] if place < len(choices) else None
    return Block(
        name=name,
        kinds=tuple(layer.kind for layer in layers),
        kernel=max(layer.kernel_size for layer in layers),
        in_channels=layers[0].in_channels,
        hidden_channels=max(layer.out_channels for layer in layers),
        out_channels=layers[-1].out_channels,
        in_size=layers[0].in_size,
        out_size=layers[-1].out_size,
        macs=sum(layer.macs for layer in layers),
        stage=stage,
        position=position,
        choice=choice,
    )
