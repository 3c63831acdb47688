"""This process's session with one board, as TVM's RPC server gives it.

A board ends a session that grows older than its time, so one is renewed before a job when half of that has passed. No
function of TVM's extra library is needed (``random_fill``, say): inputs are uploaded.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic_core import to_jsonable_python

from ofa_tvm.compiler.loaded_model import RunnableModel
from ofa_tvm.compiler.tvm_api.names import rpc, tvm
from ofa_tvm.devices.rpc.board_facts import board_facts
from ofa_tvm.devices.rpc.board_probe import build_probe
from ofa_tvm.devices.rpc.tracker import WAIT_S, Tracker
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record

NEEDED = ("tvm.rpc.server.upload", "tvm.rpc.server.remove", "tvm.rpc.server.load_module", "runtime.RPCTimeEvaluator")
MAX_TEXT = 1 << 16
LISTED_S = 6.0
"""How long to wait for a board that is not listed: TVM's server tries every 5 s to reach its tracker."""
POLL_S = 0.2


@dataclass(frozen=True)
class Access:
    """How to reach a board.

    Args:
        tracker: HOST:PORT.
        key: what boards are registered as.
        session_timeout_s: after which a board ends a session.
        cores: that the session stays on; empty for all.
        compiler: C compiler for the board.
    """

    tracker: str
    key: str
    session_timeout_s: int
    cores: tuple[int, ...]
    compiler: str


@dataclass(frozen=True)
class BoardRequest:
    """Which board a job may use.

    Args:
        access: how to reach one.
        avoid: addresses of boards that are not wanted.
        others: boards that the caller's other processes hold.
    """

    access: Access
    avoid: tuple[str, ...] = ()
    others: int = 0


class NoBoard(OfaTvmError):
    """No board is available."""


class Board:
    """A session.

    Args:
        address: HOST:PORT of the board's server.
        session: TVM's session.
    """

    def __init__(self, address: str, session: Any) -> None:
        self.address, self._session = address, session
        self._start = time.monotonic()
        self._models: dict[str, RunnableModel] = {}
        self._kernels: dict[Path, tuple[Any, Any]] = {}
        self._probe: Any = None

    @classmethod
    def lease(cls, request: BoardRequest) -> Self:
        """Wait for a free board.

        Raises:
            NoBoard: none is registered, or none became free in time.
            DeviceUnreachable: no tracker answers.
        """
        access = request.access
        tracker = Tracker(access.tracker, access.key)
        deadline = time.monotonic() + WAIT_S
        while cls._is_listed(tracker, request):
            left_s = deadline - time.monotonic()
            lease = tracker.request(left_s) if left_s > 0 else None
            if lease is None:
                raise NoBoard(f"no board '{access.key}' became free within {WAIT_S:g} s")
            if lease.address not in request.avoid:
                board = cls(lease.address, rpc.connect(lease.host, lease.port, lease.word, access.session_timeout_s))
                if access.cores:
                    board.set_cores(access)
                return board
        raise NoBoard(f"no further board '{access.key}' is registered at the tracker {access.tracker}")

    @staticmethod
    def _is_listed(tracker: Tracker, request: BoardRequest) -> bool:
        """Whether a board is listed that may be leased, perhaps after a moment.

        A board that was in a session while its tracker started again is listed once that session has ended.
        """
        deadline = time.monotonic() + LISTED_S
        while len(set(tracker.boards()) - set(request.avoid)) <= request.others:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    @property
    def age_s(self) -> float:
        """Seconds since it was leased."""
        return time.monotonic() - self._start

    def answers(self) -> bool:
        """Whether the board still answers in this session."""
        try:
            self.require(NEEDED[0])
        except OfaTvmError:
            return True
        except Exception:  # TVM raises its own kind of error for a dead connection
            return False
        return True

    def require(self, name: str) -> None:
        """Check that the board's server has a function.

        Raises:
            OfaTvmError: it does not.
        """
        try:
            self._session.get_function(name)
        except AttributeError as error:
            raise OfaTvmError(
                f"the RPC server of {self.address} lacks {name}", "install the same apache-tvm as here"
            ) from error

    def load(self, library: Path) -> Any:
        """Upload a library, load it, and remove the file at once: what is loaded stays until nothing refers to it."""
        name = f"{os.urandom(8).hex()}.so"
        try:
            self._session.upload(str(library), name)
            return self._session.load_module(name)
        finally:
            with suppress(Exception):  # a board that is gone has nothing to remove
                self._session.remove(name)

    def model(self, library: Path) -> RunnableModel:
        """A subnet's library, loaded anew."""
        return RunnableModel(self.load(library), self._session.cpu())

    def kept_model(self, library: Path) -> RunnableModel:
        """A subnet's library, loaded once in a session."""
        key = f"{library} {library.stat().st_mtime_ns}"
        if key not in self._models:
            self._models = {key: self.model(library)}
        return self._models[key]

    def kept_kernel(self, library: Path, data: bytes) -> tuple[Any, Any]:
        """A kernel's library and its arguments on the board, loaded once in a session."""
        if library not in self._kernels:
            self._kernels[library] = self.load(library), self.tensor(np.frombuffer(data, np.uint8))
        return self._kernels[library]

    def tensor(self, array: Any) -> Any:
        """A tensor on the board."""
        return tvm.runtime.tensor(array, self._session.cpu())

    def set_cores(self, access: Access) -> None:
        """Keep this session's process on the cores.

        Raises:
            OfaTvmError: the board does not have them.
        """
        mask = sum(1 << core for core in access.cores)
        error = int(self._load_probe(access.compiler)["set_cores"](mask))
        if error:
            raise OfaTvmError(
                f"{self.address} cannot use cores {list(access.cores)}: {os.strerror(error)}",
                "see 'cores' in the target's section [rpc]",
            )

    def _load_probe(self, compiler: str) -> Any:
        """The module that queries the board's system, built once a session."""
        if self._probe is None:
            with tempfile.TemporaryDirectory() as folder:
                library = Path(folder) / "probe.so"
                build_probe(compiler, library)
                self._probe = self.load(library)
        return self._probe

    def facts(self, access: Access) -> Record:
        """What the board reports about itself."""
        read = self._load_probe(access.compiler)["read"]
        text = self.tensor(np.zeros(MAX_TEXT, np.uint8))

        def read_text(path: str) -> str | None:
            count = int(read(self.tensor(np.frombuffer(path.encode() + b"\0", np.uint8)), text))
            return text.numpy()[:count].tobytes().decode(errors="replace") if count >= 0 else None

        return board_facts(read_text)


class HeldBoard:
    """The board that a process holds from one job to the next."""

    def __init__(self) -> None:
        self._board: Board | None = None

    def use(self, request: BoardRequest, use: Callable[[Board], object]) -> Record:
        """Do something on the board, or on another one.

        Returns:
            What ``use`` gives or, when it fails on a board that answers, "failed" with ``error``; with ``board``, the
            address. Else "no_board", when none is available, or "lost", when the board went away.
        """
        held, session_s = self._board, request.access.session_timeout_s
        if held is not None and (held.age_s > session_s / 2 or held.address in request.avoid):
            held = self._board = None  # ends the session
        try:
            board = self._board = held or Board.lease(request)
        except Exception as error:  # TVM raises its own kinds
            return {"status": "no_board", "error": _reason(error)}
        try:
            answer = use(board)
        except Exception as error:  # whatever a board may do
            if board.answers():
                return {"status": "failed", "error": _reason(error), "board": board.address}
            self._board = None
            # TVM says which check of its code failed; only an expired session has a reason that helps.
            expired = "expired" in str(error)
            reason = f"its session of {session_s} s ended" if expired else "the connection ended"
            return {"status": "lost", "error": reason, "board": board.address}
        return {**to_jsonable_python(answer), "board": board.address}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0 if isinstance(error, OfaTvmError) else -1][:300]
