"""What the long files of a log say, kept beside them: opening a log then parses only the lines that came since.

A tally holds what follows from the first bytes of a file, and their hash. Whoever reads the file hashes those bytes; if
one of them has changed, the tally is left aside and every line is read. It can be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from ofa_tvm.support import version
from ofa_tvm.support.files import Record, complete_length, parsed_line, write_atomic
from ofa_tvm.support.typed import typed_line

T = TypeVar("T")

FORM = f"1, ofa_tvm {version.VERSION}"
"""Another version of this package may want to know something else of the lines."""
WORTH_BYTES = 1 << 20
"""A tally is written anew when this much was read beyond it."""
_CHUNK = 1 << 20


class TalliedFile(Generic[T]):
    """An append-only file of JSON lines with its tally.

    ``entries`` are what the tally says, in the form in which ``keep`` got them; none where it does not fit the file.

    Args:
        path: the file.
        what: what it is, for messages.
        form: of each line.
    """

    def __init__(self, path: Path, what: str, form: TypeAdapter[T]) -> None:
        self._path, self._what, self._form = path, what, form
        self._tally = path.with_name(f".{path.name}.tally")
        self._length = self._count = 0
        self._sha = hashlib.sha256()
        self.entries: list[str] = []
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            self._read_tally()
        self._start = self._length

    def _read_tally(self) -> None:
        head, _, body = self._tally.read_bytes().partition(b"\n")
        facts = json.loads(head)
        if facts.pop("check") != _check(facts, body) or facts["form"] != FORM:
            return
        sha, left = hashlib.sha256(), facts["length"]
        with self._path.open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK))):
                sha.update(chunk)
                left -= len(chunk)
        if left or sha.hexdigest() != facts["sha256"]:
            return
        self.entries = body.decode().splitlines()
        self._sha, self._length, self._count = sha, facts["length"], facts["lines"]

    def values(self) -> Iterator[T]:
        """The complete lines that came after the tally.

        Raises:
            UserError: a line is damaged, with its number.
        """
        if not self._path.exists():
            return
        end = complete_length(self._path)
        with self._path.open("rb") as file:
            file.seek(self._length)
            while self._length < end:
                line = file.readline()
                self._count += 1
                parsed_line(self._path, self._what, self._count, line)
                self._sha.update(line)
                self._length += len(line)
                yield typed_line(self._path, self._what, self._count, line, self._form)

    def keep(self, entries: Iterable[str]) -> None:
        """Write what follows from all lines that were read, if there were enough of them since the last tally.

        Args:
            entries: texts without line feeds. Only who holds the log writes a tally.
        """
        if self._length - self._start < WORTH_BYTES:
            return
        body = "".join(f"{entry}\n" for entry in entries).encode()
        facts = {
            "form": FORM,
            "length": self._length,
            "lines": self._count,
            "sha256": self._sha.hexdigest(),
        }
        head = json.dumps({**facts, "check": _check(facts, body)})
        write_atomic(self._tally, head.encode() + b"\n" + body)


def _check(facts: Record, body: bytes) -> str:
    return hashlib.sha256(json.dumps(facts).encode() + b"\n" + body).hexdigest()


def remove_tally(path: Path) -> None:
    """Remove the tally of a file."""
    path.with_name(f".{path.name}.tally").unlink(missing_ok=True)
