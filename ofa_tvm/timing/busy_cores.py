"""Deliberate load: processes that each keep a core busy while something is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# It ends with its parent: now and then it checks whether its input has ended.
PROGRAM = """
import select, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("busy", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100000):
        pass
"""


@contextmanager
def busy_cores(count: int) -> Iterator[list[int]]:
    """Keep ``count`` cores busy with processes that end with this one; yields their process ids."""
    command = [sys.executable, "-S", "-E", "-c", PROGRAM]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
