"""One process at a time in a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ofa_tvm.support.errors import UserError

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold an existing folder for writing.

    Raises:
        UserError: another process holds it; the message names it.
    """
    holder, lock = folder / ".holder", FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = holder.read_text().strip() if holder.exists() else "another process"
        raise UserError(f"{folder} is in use by {who}", "wait until it has ended, or stop it") from error
    try:
        holder.write_text(f"process {os.getpid()} ({Path(sys.argv[0]).name} {' '.join(sys.argv[1:])})\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
