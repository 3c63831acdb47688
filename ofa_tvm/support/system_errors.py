"""What the system refuses, told with the file that it concerns."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ofa_tvm.support.errors import UserError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A system's error inside the block names this file where it names none, as when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def locking(folder: Path) -> Iterator[None]:
    """A lock that the file system refuses inside the block is told with the folder, and what to do.

    Raises:
        UserError: files in the folder cannot be locked.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{folder}: files there cannot be locked: {error.strerror}",
            "give a folder on a local disk: --out; OFA_TVM_LOGS or --logs for tuning logs; OFA_TVM_CACHE for the cache",
        ) from error
