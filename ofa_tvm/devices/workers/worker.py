"""A process that survives what it runs: compiled code that crashes or never ends costs one job.

``Worker`` starts a *keeper*, which imports TVM once and forks the process that does the jobs. When a job kills its
process or outlasts its time, the keeper says so and forks the next one from its warm memory in milliseconds. Jobs
and answers are JSON over socket pairs; arguments are converted back to the types that the job's annotations name. The
keeper ends when its parent does, however that happens.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NoReturn

from pydantic import ValidationError, validate_call
from pydantic_core import to_jsonable_python

from ofa_tvm.support.closing import Closing
from ofa_tvm.support.errors import DeviceUnreachable, HostFault, OfaTvmError, UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.host_faults import fault_of, is_host_fault, require_space

Message = Record
MakeTable = Callable[[], Mapping[str, Callable[..., object]]]
HOST_FAULT = "host_fault"
_HEADER = struct.Struct("!Q")


class Worker(Closing):
    """Runs jobs of a module in a guarded process.

    Args:
        jobs: module with a function ``jobs`` that returns functions by job name, with typed arguments and an answer.
            The module is imported in the keeper, before any fork; ``jobs`` is called in each process that does them, so
            what they keep from one to the next is that process's own.
        environment: environment variables of the keeper (thread counts).
    """

    def __init__(self, jobs: str, environment: dict[str, str] | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # A fresh interpreter: forking this one would copy threads' locks, open files and torch.
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "ofa_tvm.devices.workers.worker", str(theirs.fileno()), jobs],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
            )
        self._ready = False

    def start(self) -> None:
        """Wait until the keeper is warm (it warms up while the caller does other things).

        Raises:
            DeviceUnreachable: it could not start, and why.
        """
        if not self._ready:
            answer = self._receive()
            if "error" in answer:
                self.close()
                raise DeviceUnreachable(answer["error"])
            self._ready = True

    def call(self, job: str, timeout_s: float, /, **arguments: object) -> Message:
        """Run a job with arguments that JSON can hold.

        Returns:
            The job's answer, or ``{"status": "crashed" | "timed_out" | "failed", "error": reason}``.

        Raises:
            DeviceUnreachable: the keeper itself is gone, or the worker is closed.
            HostFault: the machine failed, not the job.
            UserError: the job was given what cannot be used.
        """
        self.start()
        if self._socket.fileno() < 0:
            raise DeviceUnreachable("the worker was closed", "start another one")
        try:
            _send(self._socket, {"job": job, "timeout_s": timeout_s, "arguments": arguments})
            answer = self._receive()
        except BaseException:
            self.close()  # an answer that comes later belongs to no call
            raise
        if answer.get("status") == HOST_FAULT:
            raise _told(answer)
        if answer.get("status") == "crashed":
            require_space()
        return answer

    def close(self) -> None:
        """End keeper and job; a closed worker takes no more calls, and one that waits in another thread ends."""
        with suppress(OSError):  # closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._keeper.wait()

    def _receive(self) -> Message:
        message = _receive(self._socket)
        if message is None:
            raise DeviceUnreachable("the worker process ended unexpectedly", "run the command again; it resumes")
        return message


def _send(to: socket.socket, message: object) -> None:
    data = json.dumps(message, default=to_jsonable_python).encode()
    to.sendall(_HEADER.pack(len(data)) + data)


def _receive(source: socket.socket) -> Message | None:
    """The next message, or None at the end."""
    header = _receive_bytes(source, _HEADER.size)
    if header is None:
        return None
    data = _receive_bytes(source, _HEADER.unpack(header)[0])
    message: Message | None = None if data is None else json.loads(data)
    return message


def _receive_bytes(source: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        try:
            part = source.recv(min(count, 1 << 20))
        except ConnectionResetError:
            return None
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


# In the keeper -----------------------------------------------------------------------------------------------


def _keep(parent: socket.socket, jobs: str) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all: the parent ends this process
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    child: tuple[int, socket.socket] | None = None
    folder, code = "", 0
    try:
        try:
            # Jobs end without clean-up; the keeper removes their files at its end.
            tempfile.tempdir = os.environ["TMPDIR"] = folder = tempfile.mkdtemp(prefix="ofa_tvm-")
            make_table = importlib.import_module(jobs).jobs
            _send(parent, {"ready": True})
        except (OfaTvmError, ImportError, OSError) as error:
            _send(parent, {"error": str(error)})
            return
        while (request := _receive(parent)) is not None:
            child = child or _fork(parent, make_table)
            answer = _run(parent, child, request)
            if answer is None:
                break
            if answer.get("status") in ("crashed", "timed_out") or answer.get("is_gone"):
                child = None
            _send(parent, answer)
    except BrokenPipeError:
        pass
    except BaseException as error:
        print(f"worker failed: {error!r}", file=sys.stderr)
        code = 1
    finally:
        if child is not None:
            _end(child)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)


def _run(parent: socket.socket, child: tuple[int, socket.socket], request: Message) -> Message | None:
    """The answer of the child, or what became of it; None when the parent is gone."""
    _, connection = child
    timeout_s = request.pop("timeout_s")
    deadline = time.monotonic() + timeout_s
    try:
        _send(connection, request)
    except BrokenPipeError:
        return _crashed(child)
    while True:
        readable, _, _ = select.select([connection, parent], [], [], max(0.0, deadline - time.monotonic()))
        if parent in readable and not parent.recv(1, socket.MSG_PEEK):
            return None
        if connection in readable:
            answer = _receive(connection)
            return _crashed(child) if answer is None else answer
        if time.monotonic() >= deadline:
            _end(child)
            return {"status": "timed_out", "error": f"took longer than {timeout_s:g} s"}


def _crashed(child: tuple[int, socket.socket]) -> Message:
    pid, connection = child
    connection.close()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return {
            "status": HOST_FAULT,
            "is_gone": True,
            "error": "its process was killed, as when memory runs out",
        }
    if os.WIFSIGNALED(status):
        reason = f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    else:
        reason = f"exited with code {os.waitstatus_to_exitcode(status)}"
    return {"status": "crashed", "error": reason}


def _end(child: tuple[int, socket.socket]) -> None:
    pid, connection = child
    connection.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _fork(parent: socket.socket, make_table: MakeTable) -> tuple[int, socket.socket]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        parent.close()
        _work(theirs, make_table)
    theirs.close()
    return pid, ours


def _work(keeper: socket.socket, make_table: MakeTable) -> NoReturn:
    code = 0
    try:
        table = {name: validate_call(job) for name, job in make_table().items()}
        while (request := _receive(keeper)) is not None:
            try:
                answer: object = table[request["job"]](**request["arguments"])
            except Exception as error:  # a job may fail in any way; its reason is the answer
                status = HOST_FAULT if is_host_fault(error) else "failed"
                answer = {"status": status, "error": f"{type(error).__name__}: {_telling(error)[:300]}"}
                if isinstance(error, HostFault | UserError):
                    by_user = isinstance(error, UserError)
                    answer = {"status": HOST_FAULT, "error": error.what, "hint": error.hint, "by_user": by_user}
            _send(keeper, answer)
    except BrokenPipeError:
        pass
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def _told(answer: Message) -> OfaTvmError:
    """The error to raise for an answer that is no result of the job."""
    if "by_user" not in answer:
        return fault_of(answer["error"])
    return (UserError if answer["by_user"] else HostFault)(answer["error"], answer["hint"])


def _telling(error: Exception) -> str:
    """The line of an error's message that names a fault of the host; else the last line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    said = error.what if isinstance(error, OfaTvmError) else str(error)
    lines = said.strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if is_host_fault(RuntimeError(line))), lines[-1])


if __name__ == "__main__":
    _keep(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
