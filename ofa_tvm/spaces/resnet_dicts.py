"""OFA's arch dicts of ResNet50: depths to add, expand ratios as fractions, and the number of a width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ofa_tvm.spaces.dict_entries import of_blocks, resolution, shown, whole
from ofa_tvm.spaces.resnet import STEM_EXPAND, WIDTHS, BottleneckSpace
from ofa_tvm.spaces.space import SubnetConfig
from ofa_tvm.support.errors import UserError

DICT = 'it reads {"d": [2, 0, 1, 2, 0], "e": [0.2, 0.35, ...], "w": 2, "r": 224}, e with 18 numbers or one'
STEM_RUNS = 2
"""The depth with which the stem's middle convolution runs; with any other it is left out."""
ROUNDING = 1e-6


def from_ofa_resnet(value: Mapping[str, Any], space: BottleneckSpace) -> SubnetConfig:
    """Read an arch dict of OFA-ResNet50.

    Raises:
        UserError: entries are missing, no numbers, of a wrong length, of several widths, or outside the space.
    """
    missing = [name for name in ("d", "e") if name not in value]
    if missing or "ks" in value:
        raise UserError(f"not a config of {space.name}: {_wrong(missing)}", DICT)
    _check_width(value.get("w"), space)
    stem, *added = [whole("d", number, range(STEM_RUNS + 1)) for number in _five(value["d"])]
    if not 0 <= stem <= STEM_RUNS:
        raise UserError(f"depth {stem} of the stem is not one of 0, 1, 2", DICT)
    depths = [least + more for least, more in zip(space.stage_least[1:], added, strict=True)]
    for stage, depth in enumerate(depths, 1):
        if depth not in space.depths_of(stage):
            raise UserError(f"depth {added[stage - 1]} of stage {stage} is not one of 0, 1, 2", DICT)
    full = [space.depths_of(stage)[-1] for stage in range(1, space.stages)]
    expands = of_blocks("e", _per_cent(value["e"]), full, depths, space.expand_choices)
    stages = [((space.kernel_choices[0], STEM_EXPAND),) * (1 + (stem == STEM_RUNS))]
    for most, depth in zip(full, depths, strict=True):
        stages.append(tuple((space.kernel_choices[0], expand) for expand in expands[:depth]))
        expands = expands[most:]
    return space.validate(SubnetConfig(resolution(value, space), tuple(stages)))


def _wrong(missing: Sequence[str]) -> str:
    return f"'{missing[0]}' is missing" if missing else "it has kernel sizes"


def _five(value: object) -> list[Any]:
    depths = value if isinstance(value, list) else [value] * 5
    if len(depths) != 5:
        raise UserError(f"d has {len(depths)} depths", "OFA-ResNet50 has five: of the stem, and of four stages")
    return depths


def _per_cent(value: object) -> object:
    """Expand ratios below 1 as per cent."""
    if isinstance(value, list):
        return [_per_cent(ratio) for ratio in value]
    if isinstance(value, float) and 0 < value < 1 and abs(100 * value - round(100 * value)) < ROUNDING:
        return round(100 * value)
    return value


def _check_width(value: object, space: BottleneckSpace) -> None:
    numbers = value if isinstance(value, list) else [value] * 6
    if len(numbers) != 6:
        raise UserError(f"w has {len(numbers)} widths", "OFA-ResNet50 has six: two of the stem, and of four stages")
    mine = WIDTHS.index(space.width)
    if any(number not in (None, mine) or isinstance(number, bool) for number in numbers):
        width = f"width {mine} ({space.width:g})"
        raise UserError(
            f"w {shown(value)} is not {width} everywhere", "here a space has one width: adopt FILE --width W of another"
        )
