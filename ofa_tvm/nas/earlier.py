"""What an earlier search left in a folder: known by what is in its files, and set aside where a new one replaces it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from ofa_tvm.nas.result import FILE_NAME
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.typed import read_form

REGRET = "regret.json"
LEDGER = "ledger.jsonl"
EARLIER = "earlier-"
"""How names begin of what was set aside."""


class _Result(BaseModel):
    """What tells a search's result from other files of that name."""

    schema_version: int
    space: str
    target: str
    picks: list[object]
    fingerprints: dict[str, str] = {}


class _Pair(BaseModel):
    shipped: str
    on: str


class _Matrix(BaseModel):
    schema_version: int
    regret: list[_Pair]


_RESULT, _REGRET = TypeAdapter(_Result), TypeAdapter(_Matrix)


def _result(path: Path) -> _Result | None:
    """What a file says as a search's result; None where it is none, or damaged."""
    try:
        return read_form(path, "search result", _RESULT, "")
    except UserError:
        return None


def _matrix(path: Path) -> _Matrix | None:
    try:
        return read_form(path, "regret", _REGRET, "")
    except UserError:
        return None


def check_folder(folder: Path, parts: Iterable[str]) -> None:
    """Refuse a folder that holds other things than a search, or where a search would write over another file.

    Args:
        folder: where a search is to write.
        parts: folders in it that it writes to, too.

    Raises:
        UserError: it does, or it is a file.
    """
    if not folder.exists():
        return
    results = [path for path in (folder / FILE_NAME, *(folder / part / FILE_NAME for part in parts)) if path.exists()]
    strange = [path for path in results if _result(path) is None]
    if (path := folder / REGRET).exists() and _matrix(path) is None:
        strange.append(path)
    if strange:
        aside = f"mv {shlex.quote(str(strange[0]))} {shlex.quote(str(strange[0]))}.other"
        raise UserError(
            f"{strange[0]} is not of a search, or damaged, and would be written over",
            f"name another folder with --out, or move it away: {aside}",
        )
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if inside and not _is_of_a_search(folder):
        others = ", ".join(sorted(inside)[:3])
        raise UserError(f"{folder} holds something else: {others}", "name another folder with --out")


def _is_of_a_search(folder: Path) -> bool:
    ours = (FILE_NAME, f"{EARLIER}{Path(FILE_NAME).stem}*.json")
    kept = (path for name in ours for at in ("", "*/") for path in folder.glob(at + name))
    return any(any(folder.glob(at + LEDGER)) for at in ("", "*/")) or any(map(_result, kept))


def files_of(folder: Path) -> set[Path]:
    """The result of the search in a folder, its regret matrix, and the results of its targets or precisions."""
    result, matrix = _result(folder / FILE_NAME), _matrix(folder / REGRET)
    parts = set() if result is None else {*result.fingerprints}
    parts |= set() if matrix is None else {name for pair in matrix.regret for name in (pair.shipped, pair.on)}
    inside = {path for path in folder.glob(f"*/{FILE_NAME}") if path.parent.name in parts and _result(path)}
    return {folder / FILE_NAME, folder / REGRET, *inside}


def set_aside(paths: Iterable[Path]) -> None:
    """Rename what an earlier search found, so that it is not taken for a new one's; nothing is written over."""
    for path in sorted(filter(Path.is_file, paths)):
        names = (f"{EARLIER}{path.stem}{'' if number == 1 else f'-{number}'}{path.suffix}" for number in count(1))
        free = next(place for name in names if not (place := path.with_name(name)).exists())
        log(f"{path} is of an earlier search: it is now {path.rename(free)}")
