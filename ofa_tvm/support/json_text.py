"""JSON text, read with limits and written without exceptions: what is no JSON elsewhere is none here.

Python's own reader takes NaN, keys that come twice, numbers of any size and texts that no file can hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ofa_tvm.support.text import shortened

MAX_DEPTH = 64
"""Of lists and objects within each other."""
MAX_INTEGER = 2**63 - 1
LONGEST_INTEGER = len(str(-MAX_INTEGER))
NESTED = f"it is nested more than {MAX_DEPTH} deep"


@dataclass(frozen=True)
class _Refused:
    """Stands in a value for a part that is refused."""

    why: str


class _RefusedError(ValueError):
    pass


def parse_json(text: str | bytes) -> Any:
    """The value of a text, with or without a byte order mark.

    Raises:
        ValueError: it is no JSON (then the line is named); or a part of it (which is named) is not finite, is larger
            than 64 bits, stands under a key that comes twice, is nested too deeply or is no text of Unicode.
    """
    if isinstance(text, bytes):
        text = text.decode()
    text = text.removeprefix("\ufeff")
    try:
        value = _decoded(text)
    except RecursionError:
        raise ValueError(NESTED) from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if "\\u" in text:
        _check_texts(value)
    return value


def _decoded(text: str) -> Any:
    try:
        return _STRICT.decode(text)
    except _RefusedError:
        value = _LENIENT.decode(text)
    _check_depth(value)
    raise ValueError(next(_refused(value, ())))


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON; numbers that are not finite become null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _integer(text: str) -> int | _Refused:
    if len(text) > LONGEST_INTEGER:
        return _Refused(f"a number of {len(text.lstrip('-'))} digits")
    value = int(text)
    return value if abs(value) <= MAX_INTEGER else _Refused(f"{text} needs more than 64 bits")


def _number(text: str) -> float | _Refused:
    value = float(text)
    return value if math.isfinite(value) else _Refused(f"{text[:40]} is too large")


def _constant(text: str) -> _Refused:
    return _Refused(f"{text} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        found |= {name: _Refused("the key comes twice") for name in found if names.count(name) > 1}
    return found


def _small_integer(text: str) -> int:
    value = int(text) if len(text) <= LONGEST_INTEGER else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise _RefusedError
    return value


def _finite_number(text: str) -> float:
    value = float(text)
    if abs(value) == math.inf:
        raise _RefusedError
    return value


def _no_number(text: str) -> float:
    raise _RefusedError(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RefusedError
    return found


_STRICT = json.JSONDecoder(
    parse_int=_small_integer, parse_float=_finite_number, parse_constant=_no_number, object_pairs_hook=_unique
)
_LENIENT = json.JSONDecoder(
    parse_int=_integer, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
)


def _refused(value: object, path: Sequence[str]) -> Iterator[str]:
    """Where a value holds what is refused, and why."""
    if isinstance(value, _Refused):
        yield f"key '{'.'.join(map(shortened, path))}': {value.why}" if path else value.why
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from _refused(item, (*path, str(key)))


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        outer = [item for item in level if isinstance(item, list | dict)]
        if not outer:
            return
        level = [item for one in outer for item in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(NESTED)


def _check_texts(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("it holds half a character, or a NUL")
