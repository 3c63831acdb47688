"""The subnets that a command line asks for: some by name, some at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ofa_tvm.spaces import SearchSpace, SubnetConfig

DEFAULT_RANDOM = 5


def choose_subnets(
    space: SearchSpace, named: Sequence[str], random: int | None, resolution: int | None, rng: np.random.Generator
) -> list[SubnetConfig]:
    """Named subnets, then random ones.

    Args:
        space: the space.
        named: keys, ``largest`` or ``smallest``.
        random: how many random ones; None for ``DEFAULT_RANDOM`` where none is named.
        resolution: input size of the random ones in pixels; None for any.
        rng: draws them.

    Raises:
        UserError: a name or the resolution is not in the space.
    """
    count = (0 if named else DEFAULT_RANDOM) if random is None else random
    sizes = space.choose_resolutions(None if resolution is None else [resolution])
    drawn = replace(space, resolutions=sizes).sample_configs(rng, count)
    return [*map(space.parse, named), *drawn]
