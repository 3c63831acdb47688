"""A tracker and RPC servers on this machine's loopback, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ofa_tvm.devices.rpc.tracker import Tracker
from ofa_tvm.support.errors import DeviceUnreachable

LOOPBACK = "127.0.0.1"
POLL_S = 0.2
TRACKER_S = 60.0


class BoardServers:
    """Starts ``count`` boards; a context manager.

    Args:
        count: boards.
        key: what they are registered as.
        python: command of the Python that serves: this machine's, or an emulated one.
        boot_s: the most seconds that they may take.
    """

    def __init__(self, count: int, key: str, python: Sequence[str] = (sys.executable,), boot_s: float = 180.0) -> None:
        self._count, self._key, self._python, self._boot_s = count, key, list(python), boot_s
        self._groups: list[subprocess.Popen[bytes]] = []
        self.tracker = ""
        self.addresses: list[str] = []

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        # TVM imports torch wherever it is installed, which costs a server seconds and memory for nothing.
        (self.folder / "torch.py").write_text("raise ImportError\n")
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where the servers write their logs and, each in a folder named by its port, their temporary files."""
        return Path(self._folder.name)

    def _start(self) -> None:
        self.tracker = f"{LOOPBACK}:{_free_port()}"
        tracker = Tracker(self.tracker, self._key)
        # A server that comes before the tracker waits five seconds for it.
        self._start_tracker()
        for _ in range(self._count):
            port = _free_port()
            self.addresses.append(f"{LOOPBACK}:{port}")
            options = ["--tracker", self.tracker, "--key", self._key]
            self._groups.append(self._run(self._python, "rpc_server", port, options))
        self._wait(lambda: len(_listens(tracker) or []) == self._count, self._boot_s)

    def _start_tracker(self) -> None:
        tracker = Tracker(self.tracker, self._key)
        self._groups.insert(0, self._run([sys.executable], "rpc_tracker", int(self.tracker.rpartition(":")[2]), []))
        self._wait(lambda: _listens(tracker) is not None, TRACKER_S)

    def _run(self, python: list[str], module: str, port: int, options: list[str]) -> subprocess.Popen[bytes]:
        place = ["--host", LOOPBACK, "--port", str(port), "--port-end", str(port + 1)]
        paths = os.pathsep.join([self._folder.name, *filter(None, [os.environ.get("PYTHONPATH")])])
        temporary = self.folder / str(port)
        temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": paths, "TVM_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        with (self.folder / f"{port}.log").open("wb") as said:
            command = [*python, "-m", f"tvm.exec.{module}", *place, *options]
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )

    def _wait(self, is_ready: Callable[[], bool], most_s: float) -> None:
        deadline = time.monotonic() + most_s
        while not is_ready():
            ended = [process for process in self._groups if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = [path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log"))]
                why = "ended" if ended else f"were not ready within {most_s:g} s"
                said = " / ".join(line for text in logs for line in text.strip().splitlines()[-1:])
                raise DeviceUnreachable(f"the RPC servers on this machine {why}: {said[-500:]}")
            time.sleep(POLL_S)

    def kill(self, index: int) -> None:
        """Kill a board, as if its plug were pulled."""
        _kill(self._groups[1 + index])

    def restart_tracker(self) -> None:
        """Kill the tracker and start it again at the same port; boards register themselves again within seconds."""
        _kill(self._groups.pop(0))
        self._start_tracker()

    def close(self) -> None:
        """End all."""
        for process in reversed(self._groups):
            _kill(process)
        self._groups.clear()
        self._folder.cleanup()


def _listens(tracker: Tracker) -> list[str] | None:
    with suppress(DeviceUnreachable):
        return tracker.boards()
    return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port
