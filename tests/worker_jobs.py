"""Jobs for test_worker.py: ways in which a job can end."""

import faulthandler
import os
import signal
import threading
from pathlib import Path


def add(left, right):
    return {"status": "ok", "sum": left + right, "pid": os.getpid()}


def environment(name):
    return {"status": "ok", "value": os.environ.get(name)}


def fail(message):
    raise ValueError(message)


def crash():
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code):
    os._exit(code)


def hang():
    threading.Event().wait()


def hold(started, release):
    """Says that it runs by making a file, and ends when someone opens the pipe for writing."""
    Path(started).write_text(str(os.getpid()))
    with Path(release).open() as pipe:
        return {"status": "ok", "released_by": pipe.read()}


JOBS = {
    "add": add,
    "environment": environment,
    "fail": fail,
    "crash": crash,
    "leave": leave,
    "hang": hang,
    "hold": hold,
}
