"""Jobs for test_worker.py: ways in which a job can end."""

import errno
import faulthandler
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ofa_tvm.support.errors import HostFault, UserError

Answer = dict[str, object]


def add(left: int | str, right: int | str) -> Answer:
    if isinstance(left, str) or isinstance(right, str):
        return {"status": "ok", "sum": f"{left}{right}", "pid": os.getpid()}
    return {"status": "ok", "sum": left + right, "pid": os.getpid()}


def environment(name: str) -> Answer:
    return {"status": "ok", "value": os.environ.get(name)}


def temporary() -> Answer:
    """A folder that the job never removes."""
    return {"status": "ok", "folder": tempfile.mkdtemp()}


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def crash() -> None:
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code: int) -> NoReturn:
    os._exit(code)


def meet_a_fault(kind: str) -> NoReturn:
    if kind == "space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some file")
    if kind == "memory":
        raise MemoryError
    if kind == "compiler":
        said = "g++: fatal error: cannot execute 'cc1': vfork: Resource temporarily unavailable"
        raise RuntimeError(f"{said}\ncompilation terminated.")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def meet_wrong_input(is_users: bool) -> NoReturn:
    raise (UserError if is_users else HostFault)("what is wrong", "what to do")


def hang() -> None:
    threading.Event().wait()


def hold(started: str, release: str) -> Answer:
    """Says that it runs by making a file, and ends when someone opens the pipe for writing."""
    Path(started).write_text(str(os.getpid()))
    with Path(release).open() as pipe:
        return {"status": "ok", "released_by": pipe.read()}


def jobs() -> dict[str, Callable[..., Answer | None]]:
    return {
        "add": add,
        "environment": environment,
        "temporary": temporary,
        "fail": fail,
        "crash": crash,
        "leave": leave,
        "hang": hang,
        "meet_a_fault": meet_a_fault,
        "meet_wrong_input": meet_wrong_input,
        "hold": hold,
    }
