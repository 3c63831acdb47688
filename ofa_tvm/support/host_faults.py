"""Faults of the machine that does the work: no space, memory or processes. They say nothing about the work."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile

from ofa_tvm.support.errors import HostFault
from ofa_tvm.support.files import cache_folder

ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
    *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
)
SAID = ("Killed signal terminated program", "virtual memory exhausted")
"""Messages of compilers that the system killed or refused memory."""
MIN_BYTES = 1 << 16
AGAIN = "then run the same command again: what was being tried is not held against it"


def is_host_fault(error: BaseException) -> bool:
    """Whether an error is the machine's fault: by its type, or by a system message in it that a compiler passed on."""
    if isinstance(error, MemoryError | HostFault) or (isinstance(error, OSError) and error.errno in ERRORS):
        return True
    said = str(error)
    return any(words in said for words in (*map(os.strerror, ERRORS), *SAID))


def fault_of(error: str) -> HostFault:
    """The error to raise for the message of a job's process."""
    return HostFault(f"this machine failed, not what was tried: {error}", f"{_mend(error)}, {AGAIN}")


def require_space(least_bytes: int = MIN_BYTES) -> None:
    """Refuse to go on when the disk is full: a compiler that meets a full disk crashes without a message.

    Args:
        least_bytes: bytes that must be free.

    Raises:
        HostFault: the disk of the cache, or that of temporary files, is full.
    """
    for name, folder in (("OFA_TVM_CACHE", cache_folder()), ("TMPDIR", tempfile.gettempdir())):
        try:
            free = shutil.disk_usage(folder).free
        except OSError:  # not made yet
            continue
        if free < least_bytes:
            raise HostFault(
                f"{os.strerror(errno.ENOSPC)}: {folder}", f"make room there, or set {name} to another folder; {AGAIN}"
            )


def _mend(error: str) -> str:
    if os.strerror(errno.ENOSPC) in error or os.strerror(errno.EDQUOT) in error:
        return f"make room in {cache_folder()} and {tempfile.gettempdir()} (or set OFA_TVM_CACHE, TMPDIR)"
    if os.strerror(errno.EAGAIN) in error or os.strerror(errno.EMFILE) in error or os.strerror(errno.ENFILE) in error:
        return "end other programs, or raise the limits of processes and files (ulimit -u, ulimit -n)"
    if os.strerror(errno.EROFS) in error or os.strerror(errno.EIO) in error:
        return f"see to the disk of {cache_folder()}"
    return "free memory"
