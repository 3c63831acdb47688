"""BlockLatencyTable: latency of subnets as the sum of published block times.

This is OFA's own latency model (Cai et al., ICLR 2020, appendix B); it ignores what blocks share or overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.ofa_block_files import OfaTimes, block_keys
from ofa_tvm.spaces import Genomes, SearchSpace, SubnetConfig
from ofa_tvm.spaces.block_table import BlockTable
from ofa_tvm.support.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockLatencyTable:
    """Block times of a space on one device.

    Args:
        space: the space of the genomes.
        fixed_ms: sum of the blocks that every subnet has, shape (resolutions,).
        block_ms: of each elastic block, shape (resolutions, blocks, kernel choices * expand choices); the kernel size
            varies slowest.
    """

    space: SearchSpace
    fixed_ms: Floats
    block_ms: Floats

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> BlockLatencyTable:
        """Read OFA's files.

        Args:
            path: a file, or a folder of ``.yaml`` files; those of other resolutions than the space's are not used.
            space: of the MobileNetV3 family.

        Raises:
            UserError: a file is damaged, or a block of the space has no time.
        """
        files = read_files(path)
        fixed = np.zeros(len(space.resolutions))
        blocks = np.zeros((len(fixed), space.blocks, len(space.kernel_choices) * len(space.expand_choices)))
        for row, resolution in enumerate(space.resolutions):
            if resolution not in files:
                raise UserError(
                    f"{path} has no block latencies at resolution {resolution} of space {space.name}",
                    f"it has {', '.join(map(str, sorted(files))) or 'none'}",
                )
            for choice, (kernel, expand) in enumerate(product(space.kernel_choices, space.expand_choices)):
                times = block_times(
                    files[resolution], space, space.uniform(resolution, space.max_depth, kernel, expand)
                )
                elastic = [times.pop(f"block{number}") for number in range(1, 1 + space.blocks)]
                blocks[row, :, choice] = elastic
                fixed[row] = sum(times.values())
        return cls(space, fixed, blocks)

    @property
    def times(self) -> tuple[Floats, Floats]:
        """The times as another device's, to start a latency model from: see ``LatencyModel.fit``."""
        skipped = np.zeros((*self.block_ms.shape[:2], 1))
        return self.fixed_ms, np.concatenate([skipped, self.block_ms], axis=2)

    def latency_ms(self, genomes: Genomes) -> Floats:
        """Sums of the blocks' means, shape (n,)."""
        total: Floats = BlockTable(self.space, *self.times).sum(genomes)
        return total


def read_files(path: Path) -> dict[int, OfaTimes]:
    """The files of a folder, or the one file, by resolution.

    Raises:
        UserError: one is damaged, or two are of one resolution.
    """
    files: dict[int, OfaTimes] = {}
    for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
        times = OfaTimes.read(file)
        if times.resolution in files:
            raise UserError(
                f"{file} and {files[times.resolution].path} are both of resolution {times.resolution}", "remove one"
            )
        files[times.resolution] = times
    return files


def block_times(times: OfaTimes, space: SearchSpace, config: SubnetConfig) -> dict[str, float]:
    """Mean of each block of a subnet in ms, by the block's name; their sum is the subnet's latency.

    Raises:
        UserError: a block has no time.
    """
    try:
        keys = block_keys(space.network(config))
    except KeyError as error:
        raise UserError(
            f"{times.path} is of a MobileNetV3, and {space.name} has other layers, e.g. {error.args[0]}",
            "measure some of its subnets, and give their latencies: predict --fit FILE",
        ) from error
    missing = [key for key in keys.values() if key not in times.blocks]
    if missing:
        raise UserError(
            f"{times.path}: {len(missing)} blocks of space {space.name} have no time, e.g. {missing[0]}",
            "give the block latencies of this space",
        )
    return {name: times.blocks[key].mean_ms for name, key in keys.items()}
