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

    The resolution between the smallest and the largest; whether each block runs that need not; whether each block
    has at least its second, third, ... kernel size, and expand ratio (0 for skipped blocks).
    """
    resolution, _, kernel, expand = space.split_genes(genomes)
    resolutions = np.asarray(space.resolutions, dtype=np.float64)
    relative = (resolutions - resolutions[0]) / max(np.ptp(resolutions), 1)
    active = space.active_blocks(genomes)
    columns = [relative[resolution][:, None], active[:, _optional(space)]]
    for choice, choices in ((kernel, space.kernel_choices), (expand, space.expand_choices)):
        steps = (choice[:, :, None] >= np.arange(1, len(choices))) & active[:, :, None]
        columns.append(steps.reshape(len(genomes), space.blocks * (len(choices) - 1)))
    return np.concatenate(columns, axis=1, dtype=np.float64)


def step_groups(space: SearchSpace) -> Groups:
    """Group of each column of ``choice_steps``: the resolution, and depth, kernel and expand of each stage."""
    stage = np.arange(space.blocks) // space.max_depth
    kernel = np.repeat(stage, len(space.kernel_choices) - 1)
    expand = np.repeat(stage, len(space.expand_choices) - 1)
    columns = [np.zeros(1), 1 + stage[_optional(space)], 1 + space.stages + kernel, 1 + 2 * space.stages + expand]
    return np.concatenate(columns).astype(np.intp)


def _optional(space: SearchSpace) -> NDArray[np.bool_]:
    """Which blocks not every subnet runs, shape (blocks,)."""
    always = [space.depths_of(stage)[0] for stage in range(space.stages)]
    return np.arange(space.blocks) % space.max_depth >= np.repeat(always, space.max_depth)
