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
        largest = space.network(space.largest)
        self.layers = nn.ModuleDict(
            {spec.name: elastic_layer(spec, space.kernel_choices, space.norm_epsilon) for spec in largest.layers}
        )

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
