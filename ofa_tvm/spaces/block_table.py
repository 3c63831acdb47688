"""BlockTable: values of every subnet of a population, combined from values of its blocks.

What a block does depends on the resolution, its position, its kernel size and its expand ratio. Two neighbouring blocks
share one table over the resolution, the depth of their stage and their choices. A subnet is then a few look-ups, and
the row to look up is a weighted sum of its genes: one product of matrices gives the rows of a whole population.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.spaces import Genomes, SearchSpace

Values = NDArray[Any]
_BLOCK = re.compile(r"block(\d+)_")

_TOGETHER = 2
"""Blocks that share a table; tables of three would outgrow the cache."""
_CHUNK = 16384
"""Subnets of one step: its arrays stay in the cache, and so does a table while it is read."""
_EXACT = 2**24
"""Up to here float32 counts without rounding."""


def block_values(
    space: SearchSpace, layer_values: Callable[[NetworkSpec], Values], combine: np.ufunc = np.add
) -> tuple[Values, Values]:
    """Values of the layers outside elastic blocks, and of every block with every choice.

    Args:
        space: the space.
        layer_values: values that are not negative of the layers of a network, shape (layers, columns).
        combine: how values of the layers of a block become one.

    Returns:
        Shapes (resolutions, columns) and (resolutions, blocks, 1 + choices, columns), see ``BlockTable``.
    """
    parts = []
    for resolution in space.resolutions:
        choices = []
        for kernel, expand in product(space.kernel_choices, space.expand_choices):
            network = space.network(space.uniform(resolution, space.max_depth, kernel, expand))
            values = layer_values(network)
            # Row 0 holds the layers outside elastic blocks.
            rows = np.zeros((1 + space.blocks, values.shape[1]), dtype=values.dtype)
            combine.at(rows, [block_number(space, layer.name) for layer in network.layers], values)
            choices.append(rows)
        parts.append(choices)
    table: Values = np.moveaxis(np.asarray(parts), 1, 2)
    skipped = np.zeros_like(table[:, 1:, :1])
    return table[:, 0, 0], np.concatenate([skipped, table[:, 1:]], axis=2)


def block_number(space: SearchSpace, layer: str) -> int:
    """Number of the elastic block that a layer belongs to, from its name; 0 for layers outside them."""
    match = _BLOCK.match(layer)
    number = int(match.group(1)) if match else 0
    return number if number <= space.blocks else 0


class _BlockValues:
    """Combines a value of the layers outside elastic blocks with one of each block.

    Args:
        space: the space of the genomes.
        fixed: values of the other layers, shape (resolutions,) or (resolutions, columns).
        blocks: values of the blocks, shape (resolutions, blocks, 1 + choices) or (resolutions, blocks, 1 + choices,
            columns), of the same type. Choice 0 is a skipped block and holds 0; choice ``1 + k * expand_choices + e``
            has kernel size number k and expand ratio number e.

    Raises:
        ValueError: the shapes are not those of the space.
    """

    _combine: np.ufunc

    def __init__(self, space: SearchSpace, fixed: Values, blocks: Values) -> None:
        choices = len(space.kernel_choices) * len(space.expand_choices)
        columns = fixed.shape[1:]
        expected = (len(space.resolutions), space.blocks, 1 + choices, *columns)
        if len(fixed) != len(space.resolutions) or len(columns) > 1 or blocks.shape != expected:
            raise ValueError(f"tables of shapes {fixed.shape} and {blocks.shape} do not fit space {space.name}")
        self._one_column = not columns
        self._fixed = np.ascontiguousarray(fixed.reshape(len(fixed), -1).T)
        by_column = np.moveaxis(blocks.reshape(*blocks.shape[:3], -1), -1, 0)
        groups = list(_groups(space))
        self._tables = [np.ascontiguousarray(_table(space, by_column, group, self._combine)) for group in groups]
        weights = np.stack([_gene_weights(space, group) for group in groups], axis=1)
        exact = max(table.shape[1] for table in self._tables) <= _EXACT
        self._weights = weights.astype(np.float32 if exact else np.float64)

    def _combined(self, genomes: Genomes) -> Values:
        total = np.empty((len(self._fixed), len(genomes)), dtype=self._fixed.dtype)
        for start in range(0, len(genomes), _CHUNK):
            part = genomes[start : start + _CHUNK]
            rows = (part.astype(self._weights.dtype) @ self._weights).astype(np.intp).T.copy()
            for column, values in enumerate(total[:, start : start + _CHUNK]):
                np.take(self._fixed[column], part[:, 0], out=values)
                for table, row in zip(self._tables, rows, strict=True):
                    self._combine(values, table[column].take(row), out=values)
        return total[0] if self._one_column else total.T


class BlockTable(_BlockValues):
    """Sums of any quantity that the layers of a subnet add up; see ``_BlockValues`` for the arguments."""

    _combine = np.add

    def sum(self, genomes: Genomes) -> Values:
        """Sums over the layers of subnets, shape (n,) or (n, columns); genes of skipped blocks do not matter."""
        return self._combined(genomes)


class BlockMaximum(_BlockValues):
    """Like ``BlockTable`` for the largest of values that are not negative."""

    _combine = np.maximum

    def largest(self, genomes: Genomes) -> Values:
        """Largest value of subnets, shape (n,) or (n, columns); genes of skipped blocks do not matter."""
        return self._combined(genomes)


def _groups(space: SearchSpace) -> Iterator[tuple[int, range]]:
    """Stage and positions of the blocks that share a table."""
    for stage in range(space.stages):
        for first in range(0, space.max_depth, _TOGETHER):
            yield stage, range(first, min(first + _TOGETHER, space.max_depth))


def _table(space: SearchSpace, blocks: Values, group: tuple[int, range], combine: np.ufunc) -> Values:
    """Values of a group's blocks, shape (columns, rows): rows by resolution, depth, and each block's choice."""
    stage, positions = group
    choices = blocks.shape[3] - 1
    resolution, depth, *numbers = np.indices(
        (len(space.resolutions), len(space.depth_choices), *[choices] * len(positions))
    ).reshape(2 + len(positions), -1)
    total = np.zeros((len(blocks), len(resolution)), dtype=blocks.dtype)
    for position, number in zip(positions, numbers, strict=True):
        choice = np.where(space.depth_values[stage][depth] > position, 1 + number, 0)
        total = combine(total, blocks[:, resolution, stage * space.max_depth + position, choice])
    return total


def _gene_weights(space: SearchSpace, group: tuple[int, range]) -> NDArray[np.intp]:
    """What each gene adds to the row of a group's table, shape (genes,)."""
    stage, positions = group
    kernels = 1 + space.stages
    expands = kernels + space.blocks
    weights = np.zeros(expands + space.blocks, dtype=np.intp)
    step = 1
    for position in reversed(positions):
        block = stage * space.max_depth + position
        weights[expands + block] = step
        weights[kernels + block] = step * len(space.expand_choices)
        step *= len(space.kernel_choices) * len(space.expand_choices)
    weights[1 + stage] = step
    weights[0] = step * len(space.depth_choices)
    return weights
