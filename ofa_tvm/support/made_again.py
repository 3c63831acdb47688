"""Files of the cache that can be made again: objects of kernels, small libraries, the runner.

Each ends with the SHA-256 of its name and the rest, which linkers and loaders do not mind: what is damaged, or stands
under another's name, is made again instead of used. When they take more than ``OFA_TVM_CACHE_MB``, those that were not
used for the longest time are dropped.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Content, cache_folder, write_atomic
from ofa_tvm.support.staging import leftovers, sweep

SEAL_BYTES = hashlib.sha256().digest_size
VARIABLE = "OFA_TVM_CACHE_MB"
DEFAULT_MB, MOST_MB = 2048, 1 << 40
MB = 1 << 20
IN_USE_S = 600.0
"""What was used so recently is not dropped: a process may be about to link it."""
LOOK_EVERY = 64
"""Files that a process makes between looks at how much there is."""
_made = itertools.count()
_told: set[Path] = set()


def compiled_folder() -> Path:
    """Where these files are."""
    return cache_folder() / "compiled"


def usable(path: Path) -> bool:
    """Whether a file is there and whole; marks it as used. One that is damaged is told: make it again."""
    _sweep_once(path.parent)
    if not path.exists():
        return False
    if not is_whole(path):
        _tell(path)
        return False
    with suppress(OSError):  # somebody else's file
        os.utime(path)
    return True


def _tell(path: Path) -> None:
    """Said once of a folder: a later version may make all its files again."""
    if path.parent not in _told:
        _told.add(path.parent)
        log(f"{path} is damaged or of an earlier version, and made again, as others may be")


def is_whole(path: Path) -> bool:
    """Whether a file is what was written under its name; False if it cannot be read."""
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False
    return len(data) > SEAL_BYTES and _seal(path, data[:-SEAL_BYTES]) == data[-SEAL_BYTES:]


def _seal(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(os.fsencode(path.name) + b"\0" + content).digest()


def keep(path: Path, content: Content) -> None:
    """Write a file into the cache; now and then, drop what was not used for the longest time."""

    def sealed(temporary: Path) -> None:
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        seal = _seal(path, temporary.read_bytes())
        with temporary.open("ab") as file:
            file.write(seal)

    if path.is_symlink() or not path.is_file():  # a link is not followed out of the cache
        _remove(path)
    write_atomic(path, sealed)
    if next(_made) % LOOK_EVERY == 0:
        tidy()


def made(path: Path, make: Callable[[Path], object]) -> Path:
    """A file of the cache, made by a function of where to write it if it is missing or damaged."""
    if not usable(path):
        keep(path, make)
    return path


def unsealed(path: Path) -> bytes:
    """A file's content without its hash."""
    return path.read_bytes()[:-SEAL_BYTES]


@dataclass(frozen=True)
class CacheFacts:
    """What can be made again, and takes how much; what is damaged, and what killed processes left."""

    files: int
    size_bytes: int
    most_bytes: int
    damaged: tuple[Path, ...]
    leftovers: tuple[Path, ...]


def cache_facts() -> CacheFacts:
    """Look at every file; the damaged ones are only named."""
    paths = _files()
    return CacheFacts(
        files=len(paths),
        size_bytes=sum(path.stat().st_size for path in paths if path.exists()),
        most_bytes=_most_bytes(),
        damaged=tuple(path for path in paths if not is_whole(path)),
        leftovers=tuple(leftovers(compiled_folder())),
    )


def clear() -> None:
    """Remove everything that can be made again; data sets and measured accuracies stay."""
    sweep(compiled_folder())
    for path in [*_files(), *_of_older_versions()]:
        _remove(path)


def tidy() -> None:
    """Sweep what killed processes left, and drop files until the rest fits."""
    most = _most_bytes()
    sweep(compiled_folder())
    found = []
    for path in _files():
        with suppress(FileNotFoundError):  # dropped by another process
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    excess = sum(size for _, size, _ in found) - most
    for used, size, path in sorted(found):
        if excess <= 0 or time.time() - used < IN_USE_S:
            return
        with suppress(OSError):  # somebody else's file
            _remove(path)
            excess -= size


def _remove(path: Path) -> None:
    """Remove a file, or whatever stands under its name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _files() -> list[Path]:
    return sorted(compiled_folder().glob("[!.]*"))


def _of_older_versions() -> list[Path]:
    root = cache_folder()
    return [*root.glob("kernels/*.o"), *root.glob("*.so"), *root.glob("run-*")]


def _most_bytes() -> int:
    said = os.environ.get(VARIABLE) or str(DEFAULT_MB)
    if not said.isdecimal() or len(said) > len(str(MOST_MB)) or not 0 < int(said) < MOST_MB:
        raise UserError(f"{VARIABLE}={said} is no number of megabytes", f"for example {VARIABLE}={DEFAULT_MB}")
    return int(said) * MB
