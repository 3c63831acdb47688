"""Files that survive a kill: appended JSON lines, and whole files written beside and renamed.

An append locks, repairs a torn last line, writes once, flushes and syncs. A reader forgives a torn last line only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.json_text import json_text, parse_json
from ofa_tvm.support.staging import staged
from ofa_tvm.support.system_errors import locking, naming

Record = dict[str, Any]
"""A JSON object, where one is read or written."""
Content = str | bytes | Callable[[Path], object]
"""Of a file: text, bytes, or a function that writes the file at the path it is given."""
MAX_TEXT_BYTES = 1 << 28
"""Of a file that is read whole."""
BLOCK = 65536
"""Bytes that are read at a time from the end of a file."""
_writes = [0]


def writes() -> int:
    """How many files this process has written or appended to so far."""
    return _writes[0]


def cache_folder() -> Path:
    """Folder for files that can be made again: ``$OFA_TVM_CACHE``, or ``~/.cache/ofa_tvm``.

    Raises:
        UserError: see ``home``.
    """
    return Path(os.environ.get("OFA_TVM_CACHE") or home() / ".cache" / "ofa_tvm")


def home() -> Path:
    """The user's home folder.

    Raises:
        UserError: there is none, as for a user without an entry where ``HOME`` is not set.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        hint = "set OFA_TVM_CACHE and OFA_TVM_LOGS to folders that you may write, or HOME"
        raise UserError("this user has no home folder", hint) from error


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, to: Path) -> None:
    """Copy a file's content. The error of a full disk names the copy; ``shutil`` would name the source."""
    try:
        shutil.copyfile(source, to)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(to)
        raise


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
    with naming(path), staged(path) as folder:
        temporary = folder / path.name
        _write(temporary, content)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _writes[0] += 1


def _write(path: Path, content: Content) -> None:
    if callable(content):
        path.touch()
        mode = path.stat().st_mode
        content(path)
        path.chmod(path.stat().st_mode | mode)  # some writers make files that only their owner can read
    else:
        path.write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    write_atomic(path, json_text(value, indent=1) + "\n")


def read_text(path: Path, what: str, hint: str = "") -> str:
    """Read a text file in UTF-8; a byte order mark and the kind of line ends make no difference.

    Args:
        path: the file.
        what: what it is, for messages.
        hint: what to do where it cannot be read.

    Raises:
        UserError: it is missing, no text, or too large to be meant.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
        if len(content) > MAX_TEXT_BYTES:
            raise UserError(f"{what} {path} has more than {MAX_TEXT_BYTES >> 20} MiB", hint)
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        anew = f"check the name; if other files of {path.parent} are there, copy that folder again or make it anew"
        raise UserError(f"{what} {path} does not exist", hint or anew) from error
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else f"it is no text in UTF-8: {error}"
        raise UserError(f"{what} {path} cannot be read: {said}", hint) from error


def require_regular(path: Path, what: str, hint: str = "") -> None:
    """Refuse a pipe, a device or a folder: to open one may wait forever.

    Raises:
        UserError: that is what is there.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{what} {path} is no regular file", hint)


def read_json(path: Path, what: str, hint: str = "restore it from a copy, or remove it") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what it is, for the message.
        hint: what to do where it is damaged.

    Raises:
        UserError: it is missing or not JSON, see ``parse_json``.
    """
    require_regular(path, what, hint)
    text = read_text(path, what, hint)
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{what} {path} is damaged: {error}", hint) from error


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a+b") as file:
        with locking(path.parent):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def append_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Append records, one JSON object a line, in one write; a torn last line is cut off first."""
    lines = "".join(json_text(record) + "\n" for record in records)
    with _locked(path) as file:
        keep = complete_length(path)
        file.truncate(keep)
        _writes[0] += 1
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def complete_length(path: Path) -> int:
    """Bytes up to and including the last line feed.

    Raises:
        UserError: see ``require_regular``.
    """
    require_regular(path, "the log", f"move it away: mv {shlex.quote(str(path))} {shlex.quote(str(path))}.damaged")
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            last_line_end = file.read(end - start).rfind(b"\n")
            if last_line_end >= 0:
                return start + last_line_end + 1
            end = start
    return 0


def last_records(path: Path) -> Iterator[Record]:
    """The complete records of a file, the last one first, until one is damaged; reads no more than is asked for."""
    if not path.exists():
        return
    rest, end = b"", complete_length(path)
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            rest, *lines = (file.read(end - start) + rest).split(b"\n")
            lines = [rest, *lines] if start == 0 else lines
            for line in filter(None, reversed(lines)):
                try:
                    record = parse_json(line)
                except ValueError:
                    return
                if not isinstance(record, dict):
                    return
                yield record
            end = start


def read_jsonl(path: Path, what: str) -> list[Record]:
    """Read all complete records; an unfinished last line is left out.

    Raises:
        UserError: a complete line is not a JSON object, with its number.
    """
    return [record for _, _, record in numbered_lines(path, what)]


def numbered_lines(path: Path, what: str) -> Iterator[tuple[int, bytes, Record]]:
    """Number, text and record of each complete line.

    Raises:
        UserError: a complete line is not a JSON object, with its number.
    """
    if not path.exists():
        return
    length = complete_length(path)
    with path.open("rb") as file:
        complete = file.read(length)
    for number, line in enumerate(complete.splitlines(), 1):
        yield number, line, parsed_line(path, what, number, line)


def parsed_line(path: Path, what: str, number: int, line: bytes) -> Record:
    """The record of a line.

    Raises:
        UserError: it is not a JSON object.
    """
    try:
        record = parse_json(line)
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
    except ValueError as error:
        raise damaged_line(path, what, number, error) from error
    return record


def damaged_line(path: Path, what: str, number: int, why: ValueError) -> UserError:
    """The error of a line that cannot be read."""
    hint = f"restore the file from a copy, or remove that line: sed -i {number}d {shlex.quote(str(path))}"
    return UserError(f"{what} {path}, line {number}, is damaged: {why}", hint)
