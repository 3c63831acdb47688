"""Columns that describe subnets to the learned models, vectorised over populations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Floats = NDArray[np.float64]


def relative_resolution(space: SearchSpace, genomes: Genomes) -> Floats:
    """Resolution as a fraction of the largest, shape (n,)."""
    return np.asarray(space.resolutions)[genomes[:, 0]] / space.resolutions[-1]


def stage_sums(space: SearchSpace, genomes: Genomes) -> Floats:
    """Sums of 1, e, e k and e k^2 (kernel size k, expand ratio e) over active blocks, shape (n, stages * 8).

    The first block of a stage, which changes the width, counts apart from the others, which are alike. The cost of a
    block is close to linear in these, and sharing them within a stage needs far fewer samples than one-hot choices.
    """
    _, _, kernel, expand = space.split_genes(genomes)
    active = space.active_blocks(genomes)
    kernels = np.asarray(space.kernel_choices, dtype=np.float32)[kernel]
    expands = np.asarray(space.expand_choices, dtype=np.float32)[expand] * active
    terms = np.empty((len(genomes), 4, space.stages, space.max_depth), dtype=np.float32)
    for index, term in enumerate((active, expands, expands * kernels, expands * kernels**2)):
        terms[:, index] = term.reshape(terms.shape[0], space.stages, space.max_depth)
    sums = np.stack([terms[..., 0], terms[..., 1:].sum(axis=3)], axis=1)
    return sums.reshape(len(genomes), 8 * space.stages).astype(np.float64)


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
