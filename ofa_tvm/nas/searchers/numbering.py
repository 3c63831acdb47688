"""SubnetNumbers: the subnets of a space as the numbers from 0 to its cardinality."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Numbers = NDArray[np.intp]


class SubnetNumbers:
    """Numbers every subnet once: digits are the resolution and then one for the depth and the choices of each stage.

    Args:
        space: a space whose cardinality fits ``np.intp``.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._expands = [len(space.expands_of(stage)) for stage in range(space.stages)]
        self._choices = [len(space.kernels_of(stage)) * expands for stage, expands in enumerate(self._expands)]
        self._first, self._stages = [], []
        for stage, choices in enumerate(self._choices):
            depths = space.depths_of(stage)
            self._first.append(np.cumsum([0, *(choices**depth for depth in depths[:-1])]))
            self._stages.append(np.concatenate([self._of_depth(stage, number) for number in range(len(depths))]))

    def _of_depth(self, stage: int, number: int) -> Genomes:
        """Genes of a stage of one depth in the order of their digits, shape (k, 1 + 2 * max_depth)."""
        space = self._space
        depth = space.depths_of(stage)[number]
        choices = np.indices((self._choices[stage],) * depth)[::-1].reshape(depth, -1).T
        genes = np.zeros((len(choices), 1 + 2 * space.max_depth), dtype=np.int8)
        genes[:, 0] = number
        kernels, expands = np.divmod(choices, self._expands[stage])
        genes[:, 1 : 1 + depth] = kernels
        genes[:, 1 + space.max_depth : 1 + space.max_depth + depth] = expands
        return genes

    def _columns(self, stage: int) -> list[int]:
        """Where a stage's genes are in a genome."""
        kernels = 1 + self._space.stages + stage * self._space.max_depth
        blocks = range(kernels, kernels + self._space.max_depth)
        return [1 + stage, *blocks, *(block + self._space.blocks for block in blocks)]

    def genomes(self, numbers: Numbers) -> Genomes:
        """Canonical genomes, shape (n, genes), of numbers, shape (n,)."""
        genomes = np.zeros((len(numbers), len(self._space.gene_sizes)), dtype=np.int8)
        rest, genomes[:, 0] = np.divmod(numbers, len(self._space.resolutions))
        for stage in range(self._space.stages):
            rest, digit = np.divmod(rest, len(self._stages[stage]))
            genomes[:, self._columns(stage)] = self._stages[stage][digit]
        return genomes

    def of(self, genomes: Genomes) -> Numbers:
        """Numbers, shape (n,), of canonical genomes, shape (n, genes)."""
        resolution, depth, kernel, expand = self._space.split_genes(genomes)
        expands = np.repeat(self._expands, self._space.max_depth)
        choice = kernel.astype(np.intp) * expands + expand
        numbers = np.zeros(len(genomes), dtype=np.intp)
        for stage in reversed(range(self._space.stages)):
            blocks = choice[:, stage * self._space.max_depth : (stage + 1) * self._space.max_depth]
            digit = self._first[stage][depth[:, stage]] + blocks @ self._choices[stage] ** np.arange(blocks.shape[1])
            numbers = numbers * len(self._stages[stage]) + digit
        return numbers * len(self._space.resolutions) + resolution
