"""SubnetTable: sums over the layers of whole populations, without building their networks.

What a block costs depends only on the resolution, its position, its kernel size and its expand ratio, so
one table of blocks answers for every subnet by indexing and adding.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import Kind, LayerSpec, NetworkSpec
from ofa_tvm.spaces import Genomes, SearchSpace, SubnetConfig
from ofa_tvm.spaces.block_table import BlockMaximum, BlockTable, block_values
from ofa_tvm.support.dtype import FLOAT32_BYTES
from ofa_tvm.support.errors import UserError

Floats = NDArray[np.float64]
KernelKeys = Callable[[NetworkSpec], Sequence[Sequence[str]]]
"""From a network to the keys of the kernels that run for each of its layers, in order."""

KINDS: tuple[Kind, ...] = ("conv", "depthwise", "squeeze_excite", "global_pool", "linear")
POOLS = ("max_pool", "average_pool")
"""Kinds that count as ``global_pool``."""
QUANTITIES = (*(f"{kind}_ms" for kind in KINDS), "kernels", "macs", "activation_bytes", "parameter_bytes")
_CHECKS = 8


def one_kernel_each(network: NetworkSpec) -> Sequence[Sequence[str]]:
    """Count each layer as one kernel, for use without a table of kernel times."""
    return [(layer.name,) for layer in network.layers]


def moved_bytes(layer: LayerSpec) -> int:
    """Bytes of the maps that a layer reads and writes for one image, f32."""
    written = layer.out_elements * (2 if layer.residual else 1)
    return FLOAT32_BYTES * (layer.in_size**2 * layer.in_channels + written)


class SubnetTable:
    """Sums of ``QUANTITIES`` over the layers of subnets.

    Times are of single kernels added up, in ms; activation bytes count what each layer reads and writes for one image
    in f32; parameter bytes are those of folded weights.

    Args:
        space: the space of the genomes.
        kernel_costs: time of each kernel in ms by its key; None leaves the times zero.
        kernel_keys: the keys of the kernels that run for each layer of a network.

    Raises:
        UserError: a kernel of the space has no cost.
        ValueError: the layers of a block depend on more than resolution, position, kernel size and expand ratio.
    """

    def __init__(
        self,
        space: SearchSpace,
        kernel_costs: Mapping[str, float] | None = None,
        kernel_keys: KernelKeys = one_kernel_each,
    ) -> None:
        self.space = space
        self.has_costs = kernel_costs is not None
        self._costs = kernel_costs
        self._keys = kernel_keys
        self._missing: set[str] = set()
        self._fixed, self._blocks = block_values(space, self._values)
        alive = block_values(space, lambda network: np.asarray(network.alive_bytes)[:, None], np.maximum)
        if self._missing:
            raise UserError(
                f"{len(self._missing)} kernels of space {space.name} have no time, e.g. {min(self._missing)}",
                "tune them first, or estimate them",
            )
        self._sums = BlockTable(space, self._fixed, self._blocks)
        self._peak = BlockMaximum(space, alive[0][..., 0], alive[1][..., 0])
        self._check()

    @property
    def kernel_times(self) -> list[tuple[Floats, Floats]]:
        """Times in ms of the kernels of each kind that has any: outside the blocks, and of the blocks."""
        kinds = range(len(KINDS) if self.has_costs else 0)
        used = [kind for kind in kinds if self._fixed[:, kind].any() or self._blocks[..., kind].any()]
        return [(self._fixed[:, kind], self._blocks[..., kind]) for kind in used]

    def quantities(self, genomes: Genomes) -> Floats:
        """Sums over the layers of each subnet, shape (n, len(QUANTITIES)), in the order of ``QUANTITIES``."""
        total: Floats = self._sums.sum(genomes)
        return total

    @cached_property
    def _kernel_ms(self) -> BlockTable:
        kinds = slice(len(KINDS))
        return BlockTable(self.space, self._fixed[:, kinds].sum(axis=-1), self._blocks[..., kinds].sum(axis=-1))

    def kernel_ms(self, genomes: Genomes) -> Floats:
        """Times of all kernels of each subnet added up, in ms, shape (n,): what ``quantities`` splits by kind."""
        total: Floats = self._kernel_ms.sum(genomes)
        return total

    def peak_activation_bytes(self, genomes: Genomes) -> NDArray[np.int64]:
        """Largest sum of tensors alive at once in each subnet, f32, one image, shape (n,), as in ``NetworkSpec``."""
        peak: NDArray[np.int64] = self._peak.largest(genomes)
        return peak

    def network_quantities(self, config: SubnetConfig) -> Floats:
        """The same sums over the actual layers of one subnet, shape (len(QUANTITIES),): slow, used as a check."""
        total: Floats = self._values(self.space.network(config)).sum(axis=0)
        return total

    @property
    def digest(self) -> str:
        """SHA-256 that distinguishes tables of other kernel times or other spaces."""
        sha = hashlib.sha256(self.space.name.encode())
        for array in (self._blocks, self._fixed):
            sha.update(f"{array.shape}".encode())
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.hexdigest()

    def _values(self, network: NetworkSpec) -> Floats:
        pairs = zip(network.layers, self._keys(network), strict=True)
        return np.stack([self._layer(layer, keys) for layer, keys in pairs])

    def _layer(self, layer: LayerSpec, keys: Sequence[str]) -> Floats:
        values = np.zeros(len(QUANTITIES))
        if self._costs is not None:
            times = [self._costs.get(key, math.nan) for key in keys]
            self._missing.update(key for key, ms in zip(keys, times, strict=True) if not 0 < ms < math.inf)
            values[KINDS.index("global_pool" if layer.kind in POOLS else layer.kind)] = sum(times)
        folded = layer.parameters - (layer.out_channels if layer.norm else 0)
        values[len(KINDS) :] = len(keys), layer.macs, moved_bytes(layer), FLOAT32_BYTES * folded
        return values

    def _check(self) -> None:
        genomes = self.space.sample(np.random.default_rng(0), _CHECKS)
        configs = [self.space.config(genome) for genome in genomes]
        sums = [self.network_quantities(config) for config in configs]
        peaks = [self.space.network(config).peak_activation_bytes for config in configs]
        if not (
            np.allclose(self.quantities(genomes), sums, rtol=1e-9, atol=0)
            and np.array_equal(self.peak_activation_bytes(genomes), peaks)
        ):
            raise ValueError(
                f"the layers of {self.space.name} are not determined by resolution, position, kernel size and "
                "expand ratio of their block: SubnetTable cannot add them up"
            )
