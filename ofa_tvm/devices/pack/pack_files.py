"""Files of a pack: what they are called, and lines that each end with a check of themselves.

It lies in a pack beside ``measure.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
ENTRIES = "entries.jsonl"
MANIFEST = "manifest.json"
Record = dict[str, Any]


def sealed(record: Record) -> str:
    """A record as a line that ends with a check of itself."""
    text = json.dumps(record, sort_keys=True)
    return json.dumps({"record": record, "check": hashlib.sha256(text.encode()).hexdigest()[:16]}, sort_keys=True)


def unsealed(line: str) -> Record | None:
    """The record of a line; None for a damaged one."""
    try:
        value = json.loads(line)
        record = value["record"]
        is_whole = isinstance(record, dict) and json.loads(sealed(record)) == value
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if is_whole else None


def read_lines(path: Path) -> tuple[list[Record], int]:
    """The records of a file of sealed lines, and how many lines are damaged."""
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").split("\n") if path.exists() else []
    records = [unsealed(line) for line in lines if line.strip()]
    return [record for record in records if record is not None], sum(record is None for record in records)


def append_line(path: Path, record: Record) -> None:
    """Append a record as a sealed line; it is on the disk when this returns."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():  # a line that a power cut tore must not spoil the next one
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
            file.write(b"\n" if torn else b"")
        file.write((sealed(record) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
