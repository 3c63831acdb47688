"""Channel sorting: the channels that matter most come first, so that narrow subnets keep them.

Importance is the L1 norm of what the next convolution does with a channel (OFA section 3.3 and its released
training code). Sorting changes the order of channels, not what the largest network computes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.supernet.elastic import ElasticConv, ElasticDepthwise, ElasticNorm, ElasticSqueezeExcite
from ofa_tvm.supernet.model import Supernet


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
        if spec.kind == "conv" and isinstance(layer, ElasticConv):
            chain = _chain(spec, specs, readers)
            if chain and spec.name.endswith("_project"):
                order = _order(layer.weight.abs().sum((0, 2, 3)))
                changed.append((layer.weight, 1, order))
                for name in chain:
                    changed += _permutation(supernet.layers[name], order)
    for tensor, dimension, order in changed:
        tensor.copy_(tensor.index_select(dimension, order))
    return changed


def _order(importance: Tensor) -> Tensor:
    return torch.argsort(importance, descending=True, stable=True)


def _chain(spec: LayerSpec, specs: dict[str, LayerSpec], readers: dict[str, int]) -> list[str]:
    """Layers back to the convolution that makes the channels that ``spec`` reads, if nothing else reads them."""
    names: list[str] = []
    name = spec.input
    while name in specs and readers[name] == 1:
        names.append(name)
        if specs[name].kind == "conv":
            return names
        name = specs[name].input
    return []


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
