"""The blocks of a network: which can be narrower inside, and which can be left out.

A block begins and ends in maps that others may read, too; between them lie hidden channels that nobody else reads.
Taken are inverted residual blocks (Sandler et al., "MobileNetV2", CVPR 2018), their fused form (a window instead of
expansion and depthwise convolution), and residual blocks of two or three convolutions (He et al., "Deep Residual
Learning", CVPR 2016), the middle one grouped or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ofa_tvm.graph.network import LayerSpec, NetworkSpec

BLOCK = re.compile(r"block(\d+)_(\w+)")
"""Names of the layers of blocks: the number that ``SearchSpace.block_index`` gives, and the part."""
KERNELS = (3, 5, 7)
MOST_BLOCKS = 16
"""Of a stage; more begin another, whose first block then always runs."""
Block = dict[str, LayerSpec]
"""Layers by part: ``expand``, ``middle`` or ``depthwise``, ``se``, ``project``, ``shortcut_pool``, ``shortcut``."""
Hidden = Mapping[str, LayerSpec]
"""Layers that add nothing and that one other reads, by name."""


@dataclass(frozen=True)
class Stages:
    """What each stage has at most.

    Args:
        blocks: how many.
        kernels: the largest kernel size of their depthwise convolutions; the least choice where they have none.
    """

    blocks: tuple[int, ...]
    kernels: tuple[int, ...]

    @classmethod
    def of(cls, network: NetworkSpec, most: int) -> Stages:
        """The stages of a network whose blocks are named, at most so many in one."""
        blocks: Counter[int] = Counter()
        kernels: dict[int, int] = {}
        for layer in network.layers:
            match = BLOCK.match(layer.name)
            if match is not None:
                stage = (int(match[1]) - 1) // most
                blocks[stage] += match[2] == "project"
                size = layer.kernel_size if match[2] == "depthwise" else KERNELS[0]
                kernels[stage] = max(size, kernels.get(stage, size))
        return cls(tuple(blocks.values()), tuple(kernels.values()))


def named_blocks(network: NetworkSpec) -> tuple[NetworkSpec, dict[str, str], int]:
    """The network with its blocks' layers named by stage and position, the new names by the old, most of a stage.

    Where nothing can be cut, stages have no blocks.
    """
    stages: list[list[Block]] = []
    readers = _readers(network)
    for block in _blocks(network, readers):
        begins = block["expand"].input
        follows = bool(stages) and _output(stages[-1][-1]).name == begins and len(stages[-1]) < MOST_BLOCKS
        # Whoever else reads what a block begins with would read it twice where the block is left out.
        is_removable = block["project"].residual == begins and readers[begins] == 2
        if follows and is_removable:
            stages[-1].append(block)
        else:
            stages.append([block])
    most = max(map(len, stages), default=0)
    names = {
        layer.name: f"block{1 + stage * most + position}_{part}"
        for stage, members in enumerate(stages)
        for position, block in enumerate(members)
        for part, layer in block.items()
    }
    others = {layer.name for layer in network.layers} - names.keys()
    names |= {name: f"fixed_{name}" for name in others if BLOCK.match(name)}

    def renamed(layer: LayerSpec) -> LayerSpec:
        residual = None if layer.residual is None else names.get(layer.residual, layer.residual)
        source = names.get(layer.input, layer.input)
        return replace(layer, name=names.get(layer.name, layer.name), input=source, residual=residual)

    return replace(network, layers=tuple(map(renamed, network.layers))), names, most


def _readers(network: NetworkSpec) -> Counter[str]:
    return Counter(name for layer in network.layers for name in (layer.input, layer.residual) if name is not None)


def _blocks(network: NetworkSpec, readers: Counter[str]) -> list[Block]:
    """All blocks whose layers run one after the other, in order."""
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    layers = {layer.name: layer for layer in network.layers}
    hidden = {name: layer for name, layer in layers.items() if readers[name] == 1 and layer.residual is None}
    branches = {layer.residual for layer in network.layers} & hidden.keys()
    blocks: list[Block] = []
    taken: set[str] = set()
    for layer in network.layers:
        block = None if layer.name in branches else _block(layer, hidden)
        if block is None:
            continue
        inner = {part.name for part in block.values()}
        runs = sorted(places[name] for name in inner)
        if taken.isdisjoint(inner) and runs[-1] - runs[0] == len(runs) - 1:
            taken |= inner
            blocks.append(block)
    return blocks


def _output(block: Block) -> LayerSpec:
    """The layer that adds the branches, or the last one."""
    shortcut = block.get("shortcut")
    return block["project"] if shortcut is None or shortcut.residual is None else shortcut


def _block(end: LayerSpec, hidden: Hidden) -> Block | None:
    """The block that ends in a layer, None where none does.

    Of the two branches of a sum either may have been read first, and then the other adds it.
    """
    beside = None if end.residual is None else hidden.get(end.residual)
    for project, other in ((end, beside), (beside, end)):
        if project is None or not _is_dense(project):
            continue
        inner = _inner(project, hidden, is_summed=end.residual is not None)
        if inner is None:
            continue
        shortcut = {} if other is None else _shortcut(other, hidden)
        begins = end.residual if other is None else next(iter(shortcut.values())).input
        if begins in (None, inner["expand"].input):
            return {**inner, "project": project, **shortcut}
    return None


def _inner(project: LayerSpec, hidden: Hidden, is_summed: bool) -> Block | None:
    """The layers of hidden channels in front of the last convolution of a block."""
    tail: Block = {}
    last = hidden.get(project.input)
    if last is not None and last.kind == "squeeze_excite":
        tail["se"], last = last, hidden.get(last.input)
    if last is None:
        return None
    before = hidden.get(last.input)
    is_expanded = before is not None and _is_dense(before)
    is_linear = project.kernel_size == 1 and project.activation == "none"
    keeps_groups = _is_dense(last) or last.in_channels == last.out_channels
    is_fused = is_linear and last.kernel_size > 1 and last.out_channels > project.out_channels
    if before is not None and is_expanded and last.kind == "depthwise":
        takes = is_linear and before.kernel_size == before.stride == 1 and last.kernel_size in KERNELS
        return {"expand": before, "depthwise": last, **tail} if takes else None
    if before is not None and is_expanded and is_summed and last.kind == "conv" and keeps_groups:
        return {"expand": before, "middle": last, **tail}
    return {"expand": last, **tail} if _is_dense(last) and (is_summed or is_fused) else None


def _shortcut(conv: LayerSpec, hidden: Hidden) -> Block:
    """A convolution beside the hidden layers, and the pooling in front of it."""
    pool = hidden.get(conv.input)
    if pool is not None and pool.kind in ("average_pool", "max_pool"):
        return {"shortcut_pool": pool, "shortcut": conv}
    return {"shortcut": conv}


def _is_dense(layer: LayerSpec) -> bool:
    return layer.kind == "conv" and layer.groups == 1
