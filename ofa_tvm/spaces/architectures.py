"""Subnets as others write them: OFA's arch dicts in JSON or Python, DyNAS' tables, ``net.config`` of specialised nets.

An arch dict has kernel sizes ``ks``, expand ratios ``e``, depths ``d`` and a resolution ``r`` or ``image_size``
(Once-for-All, github.com/mit-han-lab/once-for-all): numbers for each block position, or for the blocks that run, or one
number for all. A specialised network's ``net.config`` lists its blocks; ``run.config`` beside it has its resolution.
"""

from __future__ import annotations

import ast
import csv
import io
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ofa_tvm.spaces import SPACES, SearchSpace, SubnetConfig
from ofa_tvm.spaces.dict_entries import of_blocks, resolution, shown, whole
from ofa_tvm.spaces.resnet import BottleneckSpace
from ofa_tvm.spaces.resnet_dicts import from_ofa_resnet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_json, read_text
from ofa_tvm.support.json_text import parse_json

FORMS = 'it reads {"ks": [...], "e": [...], "d": [...], "r": 32} or {"subnet": "r32.7x4-3x2.5x3-5x3.3x2-3x2"}'
NET_CONFIG, RUN_CONFIG = "net.config", "run.config"
KEY = re.compile(r"largest|smallest|r\d[\dx.-]*")
ENDINGS = (".json", ".jsonl", ".csv", ".txt", ".py")
"""Endings of the files that are read in a folder; a file that is named may have any."""


def read_architectures(source: str, space: SearchSpace) -> list[SubnetConfig]:
    """Subnets from a file, a folder or standard input.

    Args:
        source: a file of JSON, of Python's text, of comma-separated values, or of a subnet a line; a ``net.config``; a
            folder of such files (``ENDINGS``) or of specialised networks; ``-`` for standard input.
        space: what they belong to.

    Raises:
        UserError: something cannot be read, is of another form or lies outside the space; names the file, and a space
            that fits.
    """
    if source == "-":
        return _read("standard input", _standard_input(), None, space)
    if not source:
        raise UserError("no file of subnets is named", "give a file of subnets, a folder, or -")
    hint = "give a file of subnets, or a folder"
    try:
        texts = [(file, read_text(file, "architecture", hint)) for file in _files(Path(source))]
    except OSError as error:
        raise UserError(f"architecture {source} cannot be read: {error.strerror}", hint) from error
    return [config for file, text in texts for config in _read(str(file), text, file, space)]


def _standard_input() -> str:
    try:
        return "" if sys.stdin is None else sys.stdin.read().lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is no text: {error}", FORMS) from error


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    written = sorted(file for file in path.iterdir() if file.suffix in ENDINGS and file.is_file())
    files = [*written, *sorted(path.glob(NET_CONFIG)), *sorted(path.glob(f"*/{NET_CONFIG}"))]
    if not files:
        raise UserError(f"folder {path} holds no {', '.join(ENDINGS)} and no {NET_CONFIG}", "give a file of subnets")
    return files


def _read(name: str, text: str, file: Path | None, space: SearchSpace) -> list[SubnetConfig]:
    if not text.strip():
        raise UserError(f"{name} is not an architecture: it is empty", FORMS)
    try:
        values = _values(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, csv.Error) as error:
        raise UserError(f"{name} is not an architecture: {str(error) or type(error).__name__}", FORMS) from error
    if not values:
        raise UserError(f"{name} is not an architecture: its list is empty", FORMS)
    try:
        return _architectures(values, file, space)
    except UserError as error:
        others = [other.name for other in SPACES.values() if other.name != space.name and _fits(values, file, other)]
        hint = error.hint or ("" if others else FORMS)
        if others:
            fits = f"it fits {' and '.join(others)}: give --space {others[0]} without --supernet, or a supernet of it"
            hint = f"{hint}\nor: {fits}" if hint else fits
        raise UserError(f"{name} is not an architecture of {space.name}: {error.what}", hint) from error


def _fits(values: Sequence[Any], file: Path | None, space: SearchSpace) -> bool:
    try:
        return bool(_architectures(values, file, space))
    except UserError:
        return False


def _architectures(values: Sequence[Any], file: Path | None, space: SearchSpace) -> list[SubnetConfig]:
    configs = []
    for number, value in enumerate(values, 1):
        try:
            configs.append(_architecture(value, file, space))
        except UserError as error:
            where = f"entry {number} of {len(values)}: " if len(values) > 1 else ""
            raise UserError(where + error.what, error.hint) from error
    return configs


def _values(text: str) -> list[Any]:
    """The values in a text, in any of the supported forms."""
    try:
        parsed = parse_json(text)
    except ValueError as error:
        parsed = _python(text) or _lines(text) or _table(text)
        if not parsed:
            raise ValueError(f"neither JSON ({error}), nor Python's text, nor a table of architectures") from None
    return parsed if isinstance(parsed, list) else [parsed]


def _python(text: str) -> Any:
    """Python literals, assigned to names or not; a list where there are several."""
    try:
        statements = ast.parse(text.strip()).body
        written = [statement.value for statement in statements if isinstance(statement, ast.Expr | ast.Assign)]
        values = [ast.literal_eval(value) for value in written if not any(map(_has_twice, ast.walk(value)))]
    except (ValueError, SyntaxError, TypeError):
        return None
    if len(values) != len(statements):
        return None
    return values[0] if len(values) == 1 else values


def _has_twice(part: ast.AST) -> bool:
    """Whether part of a program is a dict with a key that comes twice."""
    keys = [ast.dump(key) for key in part.keys if key is not None] if isinstance(part, ast.Dict) else []
    return len(set(keys)) < len(keys)


def _lines(text: str) -> list[Any]:
    """A subnet's key or a dict on every line."""
    values = []
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        values.append(_one_line(line))
        if not isinstance(values[-1], str | dict):
            return []
    return values


def _one_line(line: str) -> Any:
    if KEY.fullmatch(line):
        return line
    try:
        return parse_json(line)
    except ValueError:
        return _python(line)


def _table(text: str) -> list[Any]:
    """Subnets of a table with columns ks, e, d and r, or with one of dicts (as DyNAS writes them) or of keys."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    names = [name.strip() for name in rows[0]] if rows else []
    if len({len(row) for row in rows}) > 1 or len(set(names)) < len(names):
        return []
    if {"ks", "e", "d"} <= set(names):
        return [dict(zip(names, map(_python, row), strict=True)) for row in rows[1:]]
    for column in range(len(rows[-1]) if rows else 0):
        cells = [_cell(row[column]) if column < len(row) else None for row in rows[:2]]
        if cells[-1] is None:  # the first row may be a heading, the second may not
            continue
        cells += [_cell(row[column]) if column < len(row) else None for row in rows[2:]]
        if None not in cells[1:]:
            return [cell for cell in cells if cell is not None]
    return []


def _cell(text: str) -> Any:
    """A dict or a subnet's key; None for anything else."""
    if KEY.fullmatch(text.strip()):
        return text.strip()
    value = _python(text)
    return value if isinstance(value, dict) else None


def _architecture(value: Any, file: Path | None, space: SearchSpace) -> SubnetConfig:
    if isinstance(value, str):
        return space.parse(value)
    if not isinstance(value, dict):
        raise UserError(f"{shown(value)} is neither a dict nor a subnet's key", FORMS)
    if isinstance(value.get("subnet"), str):
        config = space.parse(value["subnet"])
        rest = {name: item for name, item in value.items() if name != "subnet"}
        if {"ks", "e", "d", "blocks"} & rest.keys() and _architecture(rest, file, space) != config:
            raise UserError(f"its key {config.key} names another subnet than its lists", FORMS)
        return config
    if "subnet" in value and "ks" not in value:
        raise UserError(f"its subnet is {shown(value['subnet'])}, no subnet's key", FORMS)
    return _specialised(value, file, space) if "blocks" in value else from_ofa(value, space)


def from_ofa(value: Mapping[str, Any], space: SearchSpace) -> SubnetConfig:
    """Read OFA's arch dict.

    Raises:
        UserError: entries are missing, are no whole numbers, have a wrong length or lie outside the space.
    """
    if isinstance(space, BottleneckSpace):
        return from_ofa_resnet(value, space)
    missing = [name for name in ("ks", "e", "d") if name not in value]
    if missing:
        raise UserError(f"not an OFA config: '{missing[0]}' is missing", "it needs ks, e, d and r")
    if value.get("wid") not in (None, 0, [0], [None]):
        raise UserError(f"wid {shown(value['wid'])} names another width", "a space has one: leave wid out")
    full = [space.depths_of(stage)[-1] for stage in range(space.stages)]
    depths = _depths(value["d"], full, space)
    kernels = of_blocks("ks", value["ks"], full, depths, space.kernel_choices)
    expands = of_blocks("e", value["e"], full, depths, space.expand_choices)
    stages, pairs = [], list(zip(kernels, expands, strict=True))
    for most, depth in zip(full, depths, strict=True):
        stages.append(tuple(pairs[:depth]))
        pairs = pairs[most:]
    return space.validate(SubnetConfig(resolution(value, space), tuple(stages)))


def _depths(value: Any, full: Sequence[int], space: SearchSpace) -> list[int]:
    """How many blocks of each stage run; stages without a choice may be left out."""
    free = [stage for stage in range(space.stages) if len(space.depths_of(stage)) > 1]
    numbers = value if isinstance(value, list) else [value] * len(free)
    depths = [whole("d", number, space.depth_choices) for number in numbers]
    if len(depths) == len(free) < space.stages:
        by_stage = dict(zip(free, depths, strict=True))
        depths = [by_stage.get(stage, full[stage]) for stage in range(space.stages)]
    if len(depths) != space.stages:
        raise UserError(f"d has {len(depths)} depths, {space.name} {space.stages} stages", f"give {space.stages}")
    for stage, depth in enumerate(depths):
        choices = space.depths_of(stage)
        if len(choices) == 1:  # nothing can be chosen there, whatever is written
            depths[stage] = choices[0]
        elif depth not in choices:
            raise UserError(f"depth {depth} of stage {stage} is not one of {', '.join(map(str, choices))}")
    return depths


# Specialised networks ---------------------------------------------------------------------------------------------


def _specialised(value: Mapping[str, Any], file: Path | None, space: SearchSpace) -> SubnetConfig:
    """Read a ``net.config``; its first block is the same in all networks."""
    try:
        convs = [block.get("conv", block.get("mobile_inverted_conv")) for block in value["blocks"]]
        convs = [conv for conv in convs[1:] if conv and conv["name"] != "ZeroLayer"]
        starts = [number for number, conv in enumerate(convs) if conv["in_channels"] != conv["out_channels"]]
        starts = sorted({*starts, *(number for number, conv in enumerate(convs) if conv["stride"] == 2)})
        blocks = [
            (whole("kernel_size", conv["kernel_size"], space.kernel_choices), _expand(conv, space)) for conv in convs
        ]
        widths = [conv["out_channels"] for conv in convs]
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, ValueError) as error:
        raise UserError(f"no network that is known: {type(error).__name__} {error}", FORMS) from error
    stages = tuple(tuple(blocks[start:end]) for start, end in pairwise([*starts, len(convs)]))
    config = space.validate(SubnetConfig(_size_beside(value, file, space), stages))
    layers = space.network(config).layers
    projects = [one for one in layers if one.name.endswith("_project") and not one.name.startswith("block0_")]
    for number, (width, layer) in enumerate(zip(widths, projects, strict=True), 1):
        if width != layer.out_channels:
            raise UserError(f"its block {number} has {width} channels, that of {space.name} {layer.out_channels}")
    return config


def _expand(conv: Mapping[str, Any], space: SearchSpace) -> int:
    middle = conv.get("mid_channels")
    ratio = conv["expand_ratio"] if middle is None else round(middle / conv["in_channels"])
    return whole("expand_ratio", ratio, space.expand_choices)


def _size_beside(value: Mapping[str, Any], file: Path | None, space: SearchSpace) -> int:
    run_config = None if file is None else file.parent / RUN_CONFIG
    run = read_json(run_config, "settings of the network") if run_config is not None and run_config.is_file() else {}
    size = value.get("r", value.get("image_size", run.get("image_size") if isinstance(run, dict) else None))
    if size is None:
        raise UserError(f"it names no resolution, and no {RUN_CONFIG} lies beside it", 'add "r": 224 to it')
    return whole("image_size", size[0] if isinstance(size, list) and len(size) == 1 else size, space.resolutions)
