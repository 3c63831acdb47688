"""BlockFeatures: columns that add up over the blocks of a subnet, for a linear model of its latency.

Latency follows the work at the true sizes of the maps, which grow in steps with the resolution; how much time a unit of
work takes is mostly the same everywhere, a little different in each stage, and a little more so in single choices. The
columns come in groups from the general to the particular, which ``GroupedRidge`` trusts as far as the samples go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import Kind, NetworkSpec
from ofa_tvm.spaces import Genomes, SearchSpace
from ofa_tvm.spaces.block_table import BlockTable, block_values
from ofa_tvm.spaces.subnet_table import moved_bytes

Floats = NDArray[np.float64]

_KINDS: tuple[Kind, ...] = ("conv", "depthwise", "squeeze_excite")
_SAMPLE = 512


def _work(network: NetworkSpec) -> Floats:
    """MACs and moved bytes of each layer by its kind, parameters, and whether it is a depthwise layer."""
    values = np.zeros((len(network.layers), 2 * len(_KINDS) + 2))
    for row, layer in zip(values, network.layers, strict=True):
        if layer.kind in _KINDS:
            kind = _KINDS.index(layer.kind)
            row[2 * kind : 2 * kind + 2] = layer.macs, moved_bytes(layer)
        row[-2:] = layer.parameters, layer.kind == "depthwise"
    return values


class BlockFeatures:
    """Columns of subnets in groups.

    Args:
        space: the space.
        priors: guesses of what layers take, each as (resolutions,) outside the blocks and (resolutions, blocks,
            1 + choices) as in ``BlockTable``: times of kernels by kind, say, or what another device takes.

    ``groups`` holds the number of the group of each column, ``names`` the names of the groups.
    """

    def __init__(self, space: SearchSpace, priors: Sequence[tuple[Floats, Floats]] = ()) -> None:
        self.space = space
        self._fixed_parts: list[Floats] = []
        self._block_parts: list[Floats] = []
        self.groups: list[int] = []
        self.names: list[str] = []
        area = (np.asarray(space.resolutions) / space.resolutions[-1]) ** 2
        self._add("constant and area", np.stack([np.ones_like(area), area], axis=1), None)
        stage = np.repeat(np.eye(space.stages), space.max_depth, axis=0)
        is_first = np.arange(space.blocks) % space.max_depth == 0
        place = np.concatenate([stage * is_first[:, None], stage * ~is_first[:, None]], axis=1)
        if priors:
            fixed, blocks = (np.stack(part, axis=-1) for part in zip(*priors, strict=True))
            total = fixed.sum(axis=-1, keepdims=True), blocks.sum(axis=-1, keepdims=True)
            scale = self._mean(*total)
            self._add("kernel times", total[0] / scale, total[1] / scale)
            self._add("kernel times by stage", None, _by_place(total[1] / scale, stage))
            if len(priors) > 1:
                self._add("kernel times by kind", fixed / scale, blocks / scale)
        fixed, blocks = block_values(space, _work)
        used = blocks.any(axis=(0, 1, 2))
        scale = self._mean(fixed[:, used], blocks[..., used])
        fixed, blocks = fixed[:, used] / scale, blocks[..., used] / scale
        self._add("work", fixed, blocks)
        self._add("work by stage", None, _by_place(blocks, stage))
        self._add("work by stage, first block apart", None, _by_place(blocks, place))
        choice = np.eye(blocks.shape[2])[:, 1:]
        chosen = np.tile(area[:, None, None, None] * choice, (1, space.blocks, 1, 1))
        self._add("single choices", None, _by_place(chosen, place))
        centred = np.linspace(-1, 1, len(space.resolutions)) if len(space.resolutions) > 1 else np.zeros(1)
        bends = [centred, centred**2]
        self._add(
            "work by resolution",
            np.concatenate([bend[:, None] * fixed for bend in bends], axis=-1),
            np.concatenate([bend[:, None, None, None] * blocks for bend in bends], axis=-1),
        )
        self._fixed = np.concatenate(self._fixed_parts, axis=-1)
        self._blocks = np.concatenate(self._block_parts, axis=-1)

    def _mean(self, fixed: Floats, blocks: Floats) -> Floats:
        """Means over random subnets of the sums, shape (columns,)."""
        genomes = self.space.sample(np.random.default_rng(0), _SAMPLE)
        mean: Floats = BlockTable(self.space, fixed, blocks).sum(genomes).mean(axis=0)
        return mean

    def _add(self, name: str, fixed: Floats | None, blocks: Floats | None) -> None:
        """Add a group of columns; None stands for zeros."""
        columns = fixed.shape[-1] if fixed is not None else blocks.shape[-1] if blocks is not None else 0
        shape = (len(self.space.resolutions), self.space.blocks)
        choices = 1 + len(self.space.kernel_choices) * len(self.space.expand_choices)
        self.groups += [len(self.names)] * columns
        self.names.append(name)
        self._fixed_parts.append(np.zeros((shape[0], columns)) if fixed is None else fixed)
        self._block_parts.append(np.zeros((*shape, choices, columns)) if blocks is None else blocks)

    def rows(self, genomes: Genomes) -> Floats:
        """Columns of subnets, shape (n, columns)."""
        resolution, _, kernel, expand = self.space.split_genes(genomes)
        choice = (1 + kernel.astype(np.intp) * len(self.space.expand_choices) + expand) * self.space.active_blocks(
            genomes
        )
        total: Floats = self._fixed[resolution]
        for block in range(self.space.blocks):
            total += self._blocks[resolution, block, choice[:, block]]
        return total

    def table(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """What a linear model with these coefficients gives the layers outside the blocks, and each block.

        Returns:
            Shapes (resolutions,) and (resolutions, blocks, 1 + choices): their sums are the model's predictions.
        """
        return self._fixed @ coefficients, self._blocks @ coefficients


def _by_place(blocks: Floats, place: Floats) -> Floats:
    """Columns (resolutions, blocks, choices, columns), separate for each place; ``place``: (blocks, places), 0 or 1."""
    parted = blocks[..., None, :] * place[None, :, None, :, None]
    return parted.reshape(*blocks.shape[:3], -1)
