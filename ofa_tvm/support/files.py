"""Files that survive a kill: appended JSON lines, and whole files written beside and renamed.

An append locks, repairs a torn last line, writes once, flushes and syncs. A reader forgives a torn last line only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ofa_tvm.support.errors import UserError

Record = dict[str, Any]
"""A JSON object, where one is read or written."""
Content = str | bytes | Callable[[Path], object]
"""Of a file: text, bytes, or a function that writes the file at the path it is given."""


def cache_folder() -> Path:
    """Folder for files that can be made again: ``$OFA_TVM_CACHE``, or ``~/.cache/ofa_tvm``."""
    return Path(os.environ.get("OFA_TVM_CACHE") or Path.home() / ".cache" / "ofa_tvm")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: Content) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part.

    A link is followed; what is no regular file (a device, a pipe) is written to as it is.

    Args:
        path: the file.
        content: text, bytes, or a function that writes the file at the path it is given.
    """
    if path.exists() and not path.is_file():
        _write(path, content)
        return
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        _write(temporary, content)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, content: Content) -> None:
    if callable(content):
        path.touch()
        mode = path.stat().st_mode
        content(path)
        path.chmod(path.stat().st_mode | mode)  # some writers make files that only their owner can read
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what it is, for the message.

    Raises:
        UserError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        hint = f"check the name; if other files of {path.parent} are there, copy that folder again or make it anew"
        raise UserError(f"{what} {path} does not exist", hint) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {path} is damaged: {error}", "restore it from a copy, or remove it") from error


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def append_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Append records, one JSON object a line, in one write; a torn last line is cut off first."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    with _locked(path) as file:
        keep = complete_length(path)
        file.truncate(keep)
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def complete_length(path: Path) -> int:
    """Bytes up to and including the last line feed."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            last_line_end = file.read(end - start).rfind(b"\n")
            if last_line_end >= 0:
                return start + last_line_end + 1
            end = start
    return 0


def read_jsonl(path: Path, what: str) -> list[Record]:
    """Read all complete records; an unfinished last line is left out.

    Raises:
        UserError: a complete line is not a JSON object, with its number.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        complete = file.read(complete_length(path))
    records: list[Record] = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            record = error
        if not isinstance(record, dict):
            hint = "remove that line, or restore the file from a copy"
            raise UserError(f"{what} {path}, line {number}, is damaged", hint)
        records.append(record)
    return records
