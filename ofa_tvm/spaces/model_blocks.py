"""The inverted residual blocks of a network: which can be narrower, and which can be left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ofa_tvm.graph.network import LayerSpec, NetworkSpec

BLOCK = re.compile(r"block(\d+)_(\w+)")
"""Names of the layers of blocks: the number that ``SearchSpace.block_index`` gives, and the part."""
KERNELS = (3, 5, 7)


@dataclass(frozen=True)
class Stages:
    """What each stage has at most.

    Args:
        blocks: how many.
        kernels: their largest kernel size.
    """

    blocks: tuple[int, ...]
    kernels: tuple[int, ...]

    @classmethod
    def of(cls, network: NetworkSpec, most: int) -> Stages:
        """The stages of a network whose blocks are named, at most so many in one."""
        found: dict[int, list[int]] = {}
        for layer in network.layers:
            match = BLOCK.match(layer.name)
            if match is not None and match[2] == "depthwise":
                found.setdefault((int(match[1]) - 1) // most, []).append(layer.kernel_size)
        return cls(tuple(map(len, found.values())), tuple(map(max, found.values())))


def named_blocks(network: NetworkSpec) -> tuple[NetworkSpec, dict[str, str], int]:
    """The network with its blocks' layers named by stage and position, the new names by the old, most of a stage."""
    blocks = _blocks(network)
    stages: list[list[dict[str, LayerSpec]]] = []
    for block in blocks:
        follows = bool(stages) and stages[-1][-1]["project"].name == block["expand"].input
        is_removable = block["project"].residual == block["expand"].input
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

    def renamed(layer: LayerSpec) -> LayerSpec:
        residual = None if layer.residual is None else names.get(layer.residual, layer.residual)
        source = names.get(layer.input, layer.input)
        return replace(layer, name=names.get(layer.name, layer.name), input=source, residual=residual)

    return replace(network, layers=tuple(map(renamed, network.layers))), names, most


def _blocks(network: NetworkSpec) -> list[dict[str, LayerSpec]]:
    """Expanding convolution, depthwise convolution, squeeze-excite if any, and projection of each block, in order."""
    layers = {layer.name: layer for layer in network.layers}
    readers: dict[str, int] = {}
    for layer in network.layers:
        for name in filter(None, (layer.input, layer.residual)):
            readers[name] = readers.get(name, 0) + 1
    blocks = []
    for project in network.layers:
        block: dict[str, LayerSpec] = {}
        source = layers.get(project.input)
        if source is not None and source.kind == "squeeze_excite":
            block["se"], source = source, layers.get(source.input)
        depthwise = source
        expand = None if depthwise is None else layers.get(depthwise.input)
        if depthwise is None or expand is None or not _is_pointwise(project) or project.activation != "none":
            continue
        if depthwise.kind != "depthwise" or depthwise.kernel_size not in KERNELS or not _is_pointwise(expand):
            continue
        inside = [expand, depthwise, *block.values()]
        if expand.residual is None and all(readers[layer.name] == 1 for layer in inside):
            blocks.append({"expand": expand, "depthwise": depthwise, **block, "project": project})
    return blocks


def _is_pointwise(layer: LayerSpec) -> bool:
    return layer.kind == "conv" and layer.kernel_size == layer.stride == layer.groups == 1
