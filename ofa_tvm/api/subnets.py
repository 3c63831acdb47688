"""Subnets of a space: drawn, named, described."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ofa_tvm.api.arguments import Count, checked
from ofa_tvm.spaces import SearchSpace, SubnetConfig

Subnet = SubnetConfig | str
"""A subnet, or its key (``largest`` and ``smallest`` are keys, too)."""


@dataclass(frozen=True)
class Description:
    """What a subnet is.

    Args:
        key: its name.
        resolution: of its input, in pixels.
        macs: multiply-accumulates of one image.
        parameters: of all layers.
        peak_activation_bytes: of maps that are alive at once, in float32.
        layers: name and kind of each.
    """

    key: str
    resolution: int
    macs: int
    parameters: int
    peak_activation_bytes: int
    layers: tuple[tuple[str, str], ...]


@checked
def sample(space: SearchSpace, n: Count, seed: Count = 0) -> list[SubnetConfig]:
    """``n`` different random subnets."""
    return space.sample_configs(np.random.default_rng(seed), n)


@checked
def describe(space: SearchSpace, subnet: Subnet) -> Description:
    """What a subnet is.

    Raises:
        UserError: the space has no such subnet.
    """
    (config,) = configs_of(space, [subnet])
    network = space.network(config)
    return Description(
        config.key,
        config.resolution,
        network.macs,
        network.parameters,
        network.peak_activation_bytes,
        tuple((layer.name, layer.kind) for layer in network.layers),
    )


def configs_of(space: SearchSpace, subnets: Iterable[Subnet] | str) -> list[SubnetConfig]:
    """Subnets by key or as they are.

    Raises:
        UserError: the space has no such subnet.
    """
    several = [subnets] if isinstance(subnets, str) else subnets
    return [space.parse(subnet) if isinstance(subnet, str) else space.validate(subnet) for subnet in several]
