"""SubnetTable: sums over the layers of whole populations, without building their networks.

What a block costs depends only on the resolution, its position, its kernel size and its expand ratio, so
one table of blocks answers for every subnet by indexing and adding.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.block_table import BlockMaximum, BlockTable
from ofa_tvm.errors import UserError
from ofa_tvm.network import FLOAT32_BYTES, Kind, LayerSpec, NetworkSpec
from ofa_tvm.spaces import Genomes, SearchSpace, SubnetConfig

Floats = NDArray[np.float64]
KernelKeys = Callable[[NetworkSpec], Sequence[Sequence[str]]]
"""From a network to the keys of the kernels that run for each of its layers, in order."""

KINDS: tuple[Kind, ...] = get_args(Kind)
QUANTITIES = (*(f"{kind}_ms" for kind in KINDS), "kernels", "macs", "activation_bytes", "parameter_bytes")
_BLOCK = re.compile(r"block(\d+)_")
_CHECKS = 8


def one_kernel_each(network: NetworkSpec) -> Sequence[Sequence[str]]:
    """Count each layer as one kernel, for use without a table of kernel times."""
    return [(layer.name,) for layer in network.layers]


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
        choices = len(space.kernel_choices) * len(space.expand_choices)
        # Choice 0 of a block is "skipped" and stays zero.
        self._blocks = np.zeros((space.blocks, len(space.resolutions), 1 + choices, len(QUANTITIES)))
        self._fixed = np.zeros((len(space.resolutions), len(QUANTITIES)))
        self._block_alive = np.zeros((space.blocks, len(space.resolutions), 1 + choices), dtype=np.int64)
        self._fixed_alive = np.zeros(len(space.resolutions), dtype=np.int64)
        self._fill()
        if self._missing:
            raise UserError(
                f"{len(self._missing)} kernels of space {space.name} have no time, e.g. {min(self._missing)}",
                "tune them first, or estimate them",
            )
        blocks, alive = np.swapaxes(self._blocks, 0, 1), np.swapaxes(self._block_alive, 0, 1)
        kinds = slice(len(KINDS))
        self._sums = BlockTable(space, self._fixed, blocks)
        self._kernel_ms = BlockTable(space, self._fixed[:, kinds].sum(axis=-1), blocks[..., kinds].sum(axis=-1))
        self._peak = BlockMaximum(space, self._fixed_alive, alive)
        self._check()

    def quantities(self, genomes: Genomes) -> Floats:
        """Sums over the layers of each subnet, shape (n, len(QUANTITIES)), in the order of ``QUANTITIES``."""
        total: Floats = self._sums.sum(genomes)
        return total

    def kernel_ms(self, genomes: Genomes) -> Floats:
        """Times of all kernels of each subnet added up, in ms, shape (n,): what ``quantities`` splits by kind."""
        total: Floats = self._kernel_ms.sum(genomes)
        return total

    def peak_activation_bytes(self, genomes: Genomes) -> NDArray[np.int64]:
        """Largest sum of tensors alive at once in each subnet, f32, one image, shape (n,), as in ``NetworkSpec``."""
        peak: NDArray[np.int64] = self._peak.largest(genomes)
        return peak

    def network_quantities(self, config: SubnetConfig) -> Floats:
        """The same sums over the actual layers of one subnet, shape (len(QUANTITIES),): slow and beyond doubt."""
        total = np.zeros(len(QUANTITIES))
        for _, values in self._layers(self.space.network(config)):
            total += values
        return total

    @property
    def digest(self) -> str:
        """SHA-256 that tells tables with other kernel times, or of other spaces, apart."""
        sha = hashlib.sha256(self.space.name.encode())
        for array in (self._blocks, self._fixed):
            sha.update(f"{array.shape}".encode())
            sha.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return sha.hexdigest()

    def _fill(self) -> None:
        space = self.space
        for row, resolution in enumerate(space.resolutions):
            choices = product(space.kernel_choices, space.expand_choices)
            for choice, (kernel, expand) in enumerate(choices, start=1):
                network = space.network(space.uniform(resolution, space.max_depth, kernel, expand))
                self._fixed[row] = 0
                for (layer, values), alive in zip(self._layers(network), network.alive_bytes, strict=True):
                    match = _BLOCK.match(layer.name)
                    number = int(match.group(1)) if match else 0
                    if 1 <= number <= space.blocks:
                        self._blocks[number - 1, row, choice] += values
                        place = (number - 1, row, choice)
                        self._block_alive[place] = max(self._block_alive[place], alive)
                    else:
                        self._fixed[row] += values
                        self._fixed_alive[row] = max(self._fixed_alive[row], alive)

    def _layers(self, network: NetworkSpec) -> Iterator[tuple[LayerSpec, Floats]]:
        for layer, keys in zip(network.layers, self._keys(network), strict=True):
            yield layer, self._layer(layer, keys)

    def _layer(self, layer: LayerSpec, keys: Sequence[str]) -> Floats:
        values = np.zeros(len(QUANTITIES))
        if self._costs is not None:
            times = [self._costs.get(key, math.nan) for key in keys]
            self._missing.update(key for key, ms in zip(keys, times, strict=True) if not 0 < ms < math.inf)
            values[KINDS.index(layer.kind)] = sum(times)
        moved = layer.in_size**2 * layer.in_channels + layer.out_elements * (2 if layer.residual else 1)
        folded = layer.parameters - (layer.out_channels if layer.norm else 0)
        values[len(KINDS) :] = len(keys), layer.macs, FLOAT32_BYTES * moved, FLOAT32_BYTES * folded
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
