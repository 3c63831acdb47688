"""Entries of the dicts in which others write subnets: whole numbers, one for each block, a resolution."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.errors import UserError


def resolution(value: Mapping[str, Any], space: SearchSpace) -> int:
    """The resolution of an arch dict; that of a space with one may be left out.

    Raises:
        UserError: it is missing or no whole number.
    """
    size, other = value.get("r", value.get("image_size")), value.get("image_size", value.get("r"))
    if size != other:
        raise UserError(f"r is {shown(size)} and image_size {shown(other)}", "an architecture has one resolution")
    if size is None and len(space.resolutions) > 1:
        sizes = f"{len(space.resolutions)} from {space.resolutions[0]} to {space.resolutions[-1]}"
        raise UserError(f"it names no resolution, {space.name} has {sizes}", f'add "r": {space.resolutions[-1]}')
    size = space.resolutions[0] if size is None else size
    if isinstance(size, list):
        if len(size) != 1:
            raise UserError(f"r names {len(size)} resolutions: {shown(size)}", "an architecture has one")
        size = size[0]
    return whole("r", size, space.resolutions)


def of_blocks(
    name: str, value: object, full: Sequence[int], depths: Sequence[int], choices: Sequence[int]
) -> list[int]:
    """A number for each block position, whichever way they are written.

    Args:
        name: of the entry, for messages.
        value: one number for all, or one for each position, or one for each block that runs.
        full: block positions of each stage.
        depths: blocks of each stage that run.
        choices: what the numbers may be, for messages.

    Raises:
        UserError: it has another length, or holds what is no whole number.
    """
    if not isinstance(value, list):
        return [whole(name, value, choices)] * sum(full)
    numbers = [whole(name, number, choices) for number in value]
    if len(numbers) == sum(full):
        return numbers
    if len(numbers) != sum(depths):
        raise UserError(
            f"{name} has {len(numbers)} entries: neither one for each of {sum(full)} block positions, nor one for "
            f"each of the {sum(depths)} blocks that d lets run"
        )
    padded: list[int] = []
    for most, depth in zip(full, depths, strict=True):
        mine, numbers = numbers[:depth], numbers[depth:]
        padded += mine + mine[-1:] * (most - depth)
    return padded


def whole(name: str, value: object, choices: Sequence[int]) -> int:
    """A whole number of an entry; whether it is one of the choices, which a message names, is for others to check.

    Raises:
        UserError: it is none.
    """
    is_truth = isinstance(value, bool)
    if isinstance(value, int | float) and not is_truth and abs(value) <= sys.maxsize and value == int(value):
        return int(value)
    raise UserError(
        f"{name} has {shown(value)}, which is no whole number", f"choose one of {', '.join(map(str, choices))}"
    )


def shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python shows no numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:40]}..."
