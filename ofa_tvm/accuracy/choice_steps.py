"""Columns for accuracy: each step from one choice to the next larger one, so that every step has its own gain.

Accuracy does not grow evenly with choices: from kernel size 3 to 5 it gains more than from 5 to 7, where it may lose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace

Floats = NDArray[np.float64]
Groups = NDArray[np.intp]


def choice_steps(space: SearchSpace, genomes: Genomes) -> Floats:
    """Columns of subnets from 0 to 1, shape (n, columns).

    The resolution between the smallest and the largest; whether each optional block runs; whether each block has at
    least its second, third, ... kernel size, and expand ratio (0 for skipped blocks).
    """
    resolution, _, kernel, expand = space.split_genes(genomes)
    resolutions = np.asarray(space.resolutions, dtype=np.float64)
    relative = (resolutions - resolutions[0]) / max(np.ptp(resolutions), 1)
    active = space.active_blocks(genomes)
    columns = [relative[resolution][:, None], active[:, _optional(space)]]
    for choice, exists in zip((kernel, expand), _steps(space), strict=True):
        steps = (choice[:, :, None] >= np.arange(1, exists.shape[1] + 1)) & active[:, :, None]
        columns.append(steps.reshape(len(genomes), exists.size)[:, exists.ravel()])
    return np.concatenate(columns, axis=1, dtype=np.float64)


def step_groups(space: SearchSpace) -> Groups:
    """Group of each column of ``choice_steps``: the resolution, and depth, kernel and expand of each stage."""
    stage = np.arange(space.blocks) // space.max_depth
    kernel, expand = (np.repeat(stage, exists.sum(1)) for exists in _steps(space))
    columns = [np.zeros(1), 1 + stage[_optional(space)], 1 + space.stages + kernel, 1 + 2 * space.stages + expand]
    return np.concatenate(columns).astype(np.intp)


def _steps(space: SearchSpace) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which steps between kernel sizes, and between expand ratios, a block can take, shapes (blocks, choices - 1)."""
    stages = range(space.stages)
    runs = np.concatenate([np.arange(space.max_depth) < space.depths_of(stage)[-1] for stage in stages])[:, None]
    kernels = np.repeat([len(space.kernels_of(stage)) for stage in stages], space.max_depth)[:, None]
    expands = np.repeat([len(space.expands_of(stage)) for stage in stages], space.max_depth)[:, None]
    return (
        runs & (np.arange(1, len(space.kernel_choices)) < kernels),
        runs & (np.arange(1, len(space.expand_choices)) < expands),
    )


def _optional(space: SearchSpace) -> NDArray[np.bool_]:
    """Which blocks some subnets run and others do not, shape (blocks,)."""
    position = np.arange(space.max_depth)
    depths = [space.depths_of(stage) for stage in range(space.stages)]
    return np.concatenate([(position >= choices[0]) & (position < choices[-1]) for choices in depths])
