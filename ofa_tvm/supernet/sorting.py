"""Channel sorting: the channels that matter most come first, so that narrow subnets keep them.

Importance is the L1 norm of what the next convolution does with a channel (OFA section 3.3 and its released
training code). Sorting changes the order of channels, not what the largest network computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces.model_blocks import BLOCK
from ofa_tvm.supernet.elastic import ElasticConv, ElasticDepthwise, ElasticNorm, ElasticSqueezeExcite
from ofa_tvm.supernet.model import Supernet

SORTED = ("project", "middle")
"""Parts of blocks that read channels which nobody else does."""


@torch.no_grad()
def sort_channels(supernet: Supernet) -> list[tuple[nn.Parameter | Tensor, int, Tensor]]:
    """Sort the hidden channels of every block and of every squeeze-excite layer.

    Returns:
        (tensor, dimension, order) of every tensor changed, for whatever is kept beside it (momentum).
    """
    network = supernet.space.network(supernet.space.largest)
    specs = {spec.name: spec for spec in network.layers}
    readers: dict[str, int] = {}
    for spec in network.layers:
        for name in (spec.input, spec.residual):
            if name is not None:
                readers[name] = readers.get(name, 0) + 1
    changed: list[tuple[nn.Parameter | Tensor, int, Tensor]] = []
    for spec in network.layers:
        layer = supernet.layers[spec.name]
        if spec.kind == "squeeze_excite" and isinstance(layer, ElasticSqueezeExcite):
            order = _order(layer.expand.weight.abs().sum((0, 2, 3)))
            assert layer.reduce.bias is not None
            changed += [(layer.reduce.weight, 0, order), (layer.reduce.bias, 0, order), (layer.expand.weight, 1, order)]
        match = BLOCK.match(spec.name)
        if isinstance(layer, ElasticConv) and spec.groups == 1 and match is not None and match[2] in SORTED:
            chain = _chain(spec, specs, readers)
            importance = layer.weight.double().abs().sum((0, 2, 3))  # of equal channels, whatever their order was
            order = _order(importance) if chain.groups == 1 else _order_of_groups(importance, chain.groups)
            if chain.names:
                changed.append((layer.weight, 1, order))
            for name in chain.names:
                changed += _permutation(supernet.layers[name], order)
    for tensor, dimension, order in changed:
        tensor.copy_(tensor.index_select(dimension, order))
    return changed


def _order(importance: Tensor) -> Tensor:
    return torch.argsort(importance, descending=True, stable=True)


def _order_of_groups(importance: Tensor, groups: int) -> Tensor:
    """Whole groups in order of importance; channels stay in their group, at their place."""
    members = torch.arange(len(importance)).view(groups, -1)
    return members[_order(importance.view(groups, -1).sum(1))].flatten()


@dataclass(frozen=True)
class _Chain:
    """Layers back to the convolution that makes the channels that one reads; none if anything else reads them."""

    names: tuple[str, ...] = ()
    groups: int = 1
    """In which the channels must stay together."""


def _chain(spec: LayerSpec, specs: dict[str, LayerSpec], readers: dict[str, int]) -> _Chain:
    names: list[str] = []
    name, groups = spec.input, 1
    while name in specs and readers[name] == 1:
        names.append(name)
        source = specs[name]
        if source.residual is not None:
            return _Chain()
        if source.kind == "conv" and source.groups == 1:
            return _Chain(tuple(names), groups)
        if source.kind == "conv":
            groups = source.groups
        name = source.input
    return _Chain()


def _permutation(layer: nn.Module, order: Tensor) -> list[tuple[nn.Parameter | Tensor, int, Tensor]]:
    if isinstance(layer, ElasticSqueezeExcite):
        assert layer.expand.bias is not None
        return [(layer.reduce.weight, 1, order), (layer.expand.weight, 0, order), (layer.expand.bias, 0, order)]
    assert isinstance(layer, ElasticConv | ElasticDepthwise)
    tensors: list[nn.Parameter | Tensor] = [layer.weight]
    if isinstance(layer.norm, ElasticNorm):
        norm = layer.norm
        tensors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    return [(tensor, 0, order) for tensor in tensors]
