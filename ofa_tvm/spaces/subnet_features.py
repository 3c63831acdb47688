"""Columns that describe subnets to the learned models, vectorised over populations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Floats = NDArray[np.float64]


def relative_resolution(space: SearchSpace, genomes: Genomes) -> Floats:
    """Resolution as a fraction of the largest, shape (n,)."""
    return np.asarray(space.resolutions)[genomes[:, 0]] / space.resolutions[-1]


def choice_counts(space: SearchSpace, genomes: Genomes) -> Floats:
    """How often each (kernel size, expand ratio) is chosen, shape (n, stages * 2 * choices).

    The first block of a stage counts apart from the others.
    """
    _, _, kernel, expand = space.split_genes(genomes)
    choices = len(space.kernel_choices) * len(space.expand_choices)
    number = kernel.astype(np.intp) * len(space.expand_choices) + expand
    chosen = (number[:, :, None] == np.arange(choices)) & space.active_blocks(genomes)[:, :, None]
    by_stage = chosen.reshape(len(genomes), space.stages, space.max_depth, choices)
    counts = np.stack([by_stage[:, :, 0], by_stage[:, :, 1:].sum(axis=2)], axis=2)
    return counts.reshape(len(genomes), -1).astype(np.float64)


def ordinal_choices(space: SearchSpace, genomes: Genomes) -> NDArray[np.float32]:
    """Kernel size and expand ratio of each block as 1, 2, ... and 0 for skipped blocks, shape (n, 2 * blocks).

    For trees: as good as one-hot columns on public OFA latencies, a third of the width, and monotone in cost.
    """
    active = space.active_blocks(genomes)
    _, _, kernel, expand = space.split_genes(genomes)
    return np.concatenate([(kernel + 1) * active, (expand + 1) * active], axis=1).astype(np.float32)
