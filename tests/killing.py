"""Kill this process at the n-th step that changes files below a folder; nothing in the package knows of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TORN_BYTES = 3
"""What a torn write lacks at its end."""


class Killer:
    """Counts the steps of this process from now on, and kills it right before one of them.

    A step is a file that is opened for writing, made, renamed, cut or removed, or one that is synced; it is not really
    synced, since what is written survives the process.

    Args:
        folder: changes below it count.
        at: number of the step before which to kill, from 1; 0 for none.
        is_torn: where that step syncs a file, the write before it lacks its last bytes.
    """

    def __init__(self, folder: Path, at: int = 0, is_torn: bool = False) -> None:
        self._folder, self._at, self._is_torn = f"{os.path.realpath(folder)}/", at, is_torn
        self._process, self._sync = os.getpid(), os.fsync
        self.steps = 0
        os.fsync = self._fsync  # type: ignore[assignment]
        sys.addaudithook(self._see)

    def stop(self) -> None:
        """Count no more: a hook stays as long as its process."""
        self._process, os.fsync = 0, self._sync

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            self._step(arguments[0])
        elif event in CHANGES:
            where = next((one for one in arguments[1:] if isinstance(one, int) and one >= 0), None)
            self._step(arguments[0], where if event in ("os.remove", "os.rmdir") else None)

    def _fsync(self, file: int) -> None:
        self._step(f"/proc/self/fd/{file}", synced=file)

    def _step(self, path: object, folder: int | None = None, synced: int | None = None) -> None:
        if self._process != os.getpid() or not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if folder is not None:
            name = os.path.join(f"/proc/self/fd/{folder}", name)  # noqa: PTH118
        if not os.path.realpath(name).startswith(self._folder):
            return
        self.steps += 1
        if self.steps == self._at:
            if synced is not None and self._is_torn:
                size = max(0, os.fstat(synced).st_size - TORN_BYTES)
                os.truncate(f"/proc/self/fd/{synced}", size)
            os.kill(os.getpid(), signal.SIGKILL)
