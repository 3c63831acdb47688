"""The subnets that a command line asks for: some by name, some from files, some at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.spaces.architectures import read_architectures
from ofa_tvm.support.errors import UserError

DEFAULT_RANDOM = 5


def choose_subnets(
    space: SearchSpace,
    named: Sequence[str],
    written: Sequence[str],
    random: int | None,
    resolution: int | None,
    rng: np.random.Generator,
) -> list[SubnetConfig]:
    """Named subnets, then those of files, then random ones.

    Args:
        space: the space.
        named: keys, ``largest`` or ``smallest``.
        written: files, folders or ``-``, see ``read_architectures``.
        random: how many random ones; None for ``DEFAULT_RANDOM`` where none is named.
        resolution: input size of the random ones in pixels; None for any.
        rng: draws them.

    Raises:
        UserError: a name or the resolution is not in the space, or there is no subnet at all.
    """
    configs = [
        *map(space.parse, named),
        *(config for source in written for config in read_architectures(source, space)),
    ]
    count = (0 if configs else DEFAULT_RANDOM) if random is None else random
    if not configs and count == 0:
        raise UserError("no subnet is named and none is drawn", "name one with --subnet, or draw at least one")
    drawn = space.with_resolutions(None if resolution is None else [resolution]).sample_configs(rng, count)
    return [*configs, *drawn]
