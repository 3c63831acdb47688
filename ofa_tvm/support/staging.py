"""Folders in which a file or folder is made before it takes its place, and the sweeping of those that a kill left.

A process holds the lock of its folder as long as it lives: the system lets go of it at a kill, whatever the cause.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER = re.compile(r"\.(?P<name>.+)-[0-9a-f]{16}(?P<aside>-old)?", re.DOTALL)
OF_OLDER_VERSIONS = re.compile(r"\.\d+-.+\.(safetensors|jsonl?|ubj|o)|\.tmp\w{6}")


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A new folder beside a path, for what shall take its place; removed at the end.

    Its name was never used before: the system's loader takes a library at a path it has loaded from for the same one.
    """
    folder, lock = _locked_folder(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left of staging in a folder, if it exists.

    Args:
        folder: where.
        name: of what was being made; None for everything.
    """
    for path in _staged_in(folder):
        match = LEFTOVER.fullmatch(path.name)
        if match is None or name not in (None, match["name"]):
            continue
        with _abandoned(path) as is_abandoned:
            place = path.with_name(match["name"])
            if is_abandoned and match["aside"] and not place.exists():
                path.rename(place)  # what it made room for never came
            elif is_abandoned:
                shutil.rmtree(path, ignore_errors=True)


def sweep_held(folder: Path) -> None:
    """``sweep`` a folder that the caller holds alone, and the folders in it; of older versions, too."""
    inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for each in (folder, *inside):
        sweep(each)
        for path in each.iterdir():
            if OF_OLDER_VERSIONS.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """What ``sweep`` would remove."""
    found = []
    for path in _staged_in(folder):
        with _abandoned(path) as is_abandoned:
            found += [path] * is_abandoned
    return found


def _staged_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # quick where there are ten thousand
        names = [entry.name for entry in entries]
    return sorted(folder / name for name in names if name.startswith(".") and LEFTOVER.fullmatch(name))


def _locked_folder(path: Path) -> tuple[Path, int]:
    while True:
        folder = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        folder.mkdir(parents=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):  # a file system without locks: nobody sweeps there either
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # swept before it was locked


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether no process holds a folder of ``staged``; none can begin to inside the block."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, or no folder
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_abandoned = True
        except OSError:  # its process lives, or nobody can tell
            is_abandoned = False
        yield is_abandoned
    finally:
        os.close(lock)
