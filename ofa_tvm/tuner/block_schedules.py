"""Identities of the schedules that many subnets are built with, without building each network.

Which kernels a block calls depends on the resolution, its position, its kernel size and its expand ratio, as in
``spaces.block_table``. Where that does not hold for a space, each network is built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from itertools import product

from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.spaces.block_table import block_number
from ofa_tvm.tuner.tuned_space import TunedSpace

_CHECKS = 4
Keys = frozenset[str]
Choices = dict[tuple[int, int], list[Keys]]
"""By kernel size and expand ratio: keys of the kernels outside elastic blocks, then of each block."""


def schedules_of(tuned: TunedSpace, configs: Sequence[SubnetConfig]) -> list[str]:
    """What ``TunedSpace.schedules`` gives for each subnet.

    Args:
        tuned: the space on its target.
        configs: the subnets.
    """
    space, blocks = tuned.space, _Blocks(tuned)
    networks = len(space.kernel_choices) * len(space.expand_choices) * len({config.resolution for config in configs})
    if len(configs) <= networks + _CHECKS or not all(
        blocks.digest(config) == tuned.schedules(config) for config in configs[:: len(configs) // _CHECKS]
    ):
        return [tuned.schedules(config) for config in configs]
    return [blocks.digest(config) for config in configs]


class _Blocks:
    """Kernels of a space by block."""

    def __init__(self, tuned: TunedSpace) -> None:
        self._tuned, self._space = tuned, tuned.space
        known = tuned.log.kernels
        self._texts = {key: json.dumps([key, state.schedule]) for key, state in known.items()}
        self._choices = cache(self._choices_at)

    def digest(self, config: SubnetConfig) -> str:
        """As ``TuningLog.schedules_digest`` of a subnet's kernels."""
        keys = sorted(key for key in self._keys(config) if key in self._texts)
        text = f"[{', '.join(self._texts[key] for key in keys)}]"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _keys(self, config: SubnetConfig) -> Keys:
        choices, space = self._choices(config.resolution), self._space
        fixed, *_ = next(iter(choices.values()))
        blocks = [
            choices[choice][1 + stage * space.max_depth + position]
            for stage, stage_blocks in enumerate(config.stages)
            for position, choice in enumerate(stage_blocks)
        ]
        return fixed.union(*blocks)

    def _choices_at(self, resolution: int) -> Choices:
        space = self._space
        found: Choices = {}
        for kernel, expand in product(space.kernel_choices, space.expand_choices):
            keys: list[set[str]] = [set() for _ in range(1 + space.blocks)]
            network = space.network(space.uniform(resolution, space.max_depth, kernel, expand))
            for layers, called in self._tuned.steps(network):
                keys[block_number(space, layers[-1])].add(called.key)
            found[kernel, expand] = [Keys(one) for one in keys]
        return found
