"""Read the files of block latencies that Once-for-All published for a Samsung Note10.

One file for each resolution. An entry is a key that names a block by its shapes, and its statistics in ms, indented::

    expanded_conv-input:80x80x24-output:40x40x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0:
      count: 102
      mean: 1.25
      std: 0.03

The files are YAML; this reads exactly the part of YAML that they use.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import read_text

_SIZE = r"[0-9]{1,6}"
_SHAPES = rf"-input:{_SIZE}x{_SIZE}x{_SIZE}-output:{_SIZE}(?:x{_SIZE}x{_SIZE})?"
_CHOICES = rf"-expand:{_SIZE}-kernel:{_SIZE}-stride:{_SIZE}-idskip:[01]-se:[01]-hs:[01]"
_KEY = re.compile(rf"((?:Conv|Conv_1|Conv_2|AvgPool2D|Logits){_SHAPES}|expanded_conv{_SHAPES}{_CHOICES}):")
_FIELD = re.compile(r" +(count|mean|std|var): (\S+)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_STEM = re.compile(r"Conv-input:([0-9]+)x\1x3-.*")
_OPERATORS = {"stem": "Conv", "final_expand": "Conv_1", "pool": "AvgPool2D", "feature_mix": "Conv_2"}


@dataclass(frozen=True)
class BlockTime:
    """Statistics of one block.

    Args:
        mean_ms: mean of its times.
        std_ms: their standard deviation.
        count: how many there were.
    """

    mean_ms: float
    std_ms: float
    count: int


@dataclass(frozen=True)
class OfaTimes:
    """One file: the blocks of a space at one resolution.

    Args:
        path: the file, for messages.
        resolution: of the images.
        blocks: times by key.
    """

    path: Path
    resolution: int
    blocks: dict[str, BlockTime]

    @classmethod
    def read(cls, path: Path) -> OfaTimes:
        """Read a file.

        Raises:
            UserError: it cannot be read, with the number of the line that is wrong.
        """
        lines = read_text(path, "block latencies", "give one of OFA's .yaml files").split("\n")
        tables: dict[str, tuple[int, dict[str, float]]] = {}
        fields: dict[str, float] | None = None
        for number, line in enumerate(lines, 1):
            if key := _KEY.fullmatch(line):
                if key[1] in tables:
                    raise _wrong(path, number, f"{key[1]} was there before")
                fields = {}
                tables[key[1]] = number, fields
            elif fields is not None and (field := _FIELD.fullmatch(line)):
                if field[1] in fields:
                    raise _wrong(path, number, f"{field[1]} was there before")
                fields[field[1]] = _number(path, number, field[2])
            elif line.strip():
                raise _wrong(path, number, f"'{line}' is neither the key of a block nor its count, mean, std or var")
        stems = {int(match[1]) for key in tables if (match := _STEM.fullmatch(key))}
        if len(stems) != 1:
            raise UserError(f"{path} has {len(stems)} entries like Conv-input:160x160x3-...", "it needs one")
        blocks = {key: _block_time(path, number, values) for key, (number, values) in tables.items()}
        return cls(path, stems.pop(), blocks)


def block_keys(network: NetworkSpec) -> dict[str, str]:
    """Key of each block of a network, by the block's name: ``stem``, ``block0``, ``block1``, ..., ``classifier``.

    Raises:
        KeyError: the network has layers that OFA's MobileNetV3 has not.
    """
    groups: dict[str, list[LayerSpec]] = {}
    for layer in network.layers:
        name = layer.name.partition("_")[0]
        groups.setdefault(name if name.startswith("block") else layer.name, []).append(layer)
    return {name: _block_key(name, layers) for name, layers in groups.items()}


def _block_key(name: str, layers: list[LayerSpec]) -> str:
    first, last = layers[0], layers[-1]
    shapes = f"input:{_shape(first.in_size, first.in_channels)}-output:"
    if name == "classifier":
        return f"Logits-{shapes}{last.out_channels}"
    shapes += _shape(last.out_size, last.out_channels)
    if not name.startswith("block"):
        return f"{_OPERATORS[name]}-{shapes}"
    depthwise = next((layer for layer in layers if layer.kind == "depthwise"), None)
    if depthwise is None:
        raise KeyError(name)
    flags = {
        "idskip": last.residual is not None,
        "se": any(layer.kind == "squeeze_excite" for layer in layers),
        "hs": depthwise.activation == "hard_swish",
    }
    choices = f"expand:{depthwise.in_channels}-kernel:{depthwise.kernel_size}-stride:{depthwise.stride}"
    return "-".join([f"expanded_conv-{shapes}", choices, *(f"{flag}:{int(value)}" for flag, value in flags.items())])


def _shape(size: int, channels: int) -> str:
    return f"{size}x{size}x{channels}"


def _number(path: Path, number: int, text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise _wrong(path, number, f"'{text}' is not a number")
    value = float(text)
    if not 0 <= value < math.inf:
        raise _wrong(path, number, f"{text} is not a time or a count")
    return value


def _block_time(path: Path, number: int, fields: dict[str, float]) -> BlockTime:
    if not {"count", "mean"} <= fields.keys() or ("std" in fields) == ("var" in fields):
        raise _wrong(path, number, "a block needs count, mean, and one of std and var")
    if fields["mean"] == 0 or fields["count"] != int(fields["count"]) or fields["count"] < 1:
        raise _wrong(path, number, "a block needs a positive mean of one or more times")
    std = fields["std"] if "std" in fields else math.sqrt(fields["var"])
    return BlockTime(fields["mean"], std, int(fields["count"]))


def _wrong(path: Path, number: int, what: str) -> UserError:
    return UserError(f"{path}, line {number}: {what}", "restore the file from once-for-all's latency tables")
