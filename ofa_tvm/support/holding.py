"""One process at a time in a folder."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.staging import sweep_held
from ofa_tvm.support.system_errors import locking, naming

LOCK = ".lock"


@contextmanager
def held(folder: Path, instead: str = "") -> Iterator[None]:
    """Hold an existing folder for writing; what killed processes left of unfinished files there is removed.

    Args:
        folder: the folder.
        instead: what else one could do than wait for whoever holds it.

    Raises:
        UserError: another process holds it; the message names it. Or files there cannot be locked or written.
    """
    holder, lock = folder / ".holder", FileLock(folder / LOCK)
    try:
        with locking(folder):
            lock.acquire(timeout=0)
    except Timeout as error:
        who = holder.read_text(errors="replace").strip() if holder.exists() else "another process"
        raise UserError(f"{folder} is in use by {who}", f"wait until it has ended, or stop it{instead}") from error
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        hint = "give a folder that you may write: --out; OFA_TVM_LOGS or --logs for tuning logs"
        raise UserError(f"{folder} cannot be written: {error.strerror}", hint) from error
    try:
        sweep_held(folder)
        with naming(holder):
            command = f"{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}"
            holder.write_text(f"process {os.getpid()} ({command})\n", errors="surrogateescape")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
