"""The subnets that a command line asks for: some by name, some at random, some from files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.spaces import SearchSpace, SubnetConfig
from ofa_tvm.support.errors import UserError

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
        UserError: a name or the resolution is not in the space, or there is no subnet at all.
    """
    count = (0 if named else DEFAULT_RANDOM) if random is None else random
    if not named and count == 0:
        raise UserError("no subnet is named and none is drawn", "name one with --subnet, or draw at least one")
    drawn = space.with_resolutions(None if resolution is None else [resolution]).sample_configs(rng, count)
    return [*map(space.parse, named), *drawn]


def read_architectures(source: str, space: SearchSpace) -> list[SubnetConfig]:
    """Subnets from JSON: each OFA's ``{"ks", "e", "d", "r"}``, ``{"subnet": key}`` or a key; or a list of them.

    Args:
        source: a file, a folder of .json files, or ``-`` for standard input.
        space: what they belong to.

    Raises:
        UserError: something cannot be read, is of another form or lies outside the space; names the file.
    """
    if source == "-":
        return _architectures("standard input", sys.stdin.read(), space)
    path = Path(source)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"folder {path} holds no .json file", "give a file, or a folder of them")
    try:
        texts = [(str(file), file.read_text(encoding="utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"architecture {source} cannot be read: {error}", "give a JSON file, or a folder") from error
    return [config for name, text in texts for config in _architectures(name, text, space)]


def _architectures(name: str, text: str, space: SearchSpace) -> list[SubnetConfig]:
    try:
        found = json.loads(text)
        return [_architecture(one, space) for one in (found if isinstance(found, list) else [found])]
    except (UserError, ValueError, KeyError, TypeError) as error:
        hint = 'it reads {"ks": [...], "e": [...], "d": [...], "r": 32} or {"subnet": "r32.7x4-3x2.5x3-5x3"}'
        raise UserError(f"{name} is not an architecture of {space.name}: {error}", hint) from error


def _architecture(value: Any, space: SearchSpace) -> SubnetConfig:
    if isinstance(value, str):
        return space.parse(value)
    return space.parse(value["subnet"]) if "subnet" in value else space.from_ofa(value)
