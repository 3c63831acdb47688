"""The supernet: weights of the largest network, run as any of its subnets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from torch import Tensor, nn

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.supernet.elastic import Layer, elastic_layer, run


class Supernet(nn.Module):
    """All subnets of a space in one set of weights."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        largest, least = (
            space.network(space.uniform(space.resolutions[-1], space.max_depth, kernel, space.expand_choices[-1]))
            for kernel in (space.kernel_choices[-1], space.kernel_choices[0])
        )
        self.layers = nn.ModuleDict()
        for spec, other in zip(largest.layers, least.layers, strict=True):
            # A depthwise window has its matrices whether it varies or not: so have the checkpoints that there are.
            varies = spec.kind == "depthwise" or other.kernel_size < spec.kernel_size
            self.layers[spec.name] = elastic_layer(spec, space.kernel_choices if varies else (), space.norm_epsilon)

    def forward(self, images: Tensor, network: NetworkSpec | SubnetConfig) -> Tensor:
        """Logits (batch, classes) of a subnet; images (batch, 3, resolution, resolution)."""
        if isinstance(network, SubnetConfig):
            network = self.space.network(network)
        return run(network, images, self.layer)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers by name."""
        yield from self.named_parameters()
        yield from self.named_buffers()

    def layer(self, name: str) -> Layer:
        """The elastic layer of that name."""
        return cast(Layer, self.layers[name])
