"""Other work in bursts: so many processes that compute, or that move memory, for some seconds, then none."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BUSY = "while True: pass"
MEMORY = """
import numpy as np
a, b = np.zeros(1 << 24), np.ones(1 << 24)
while True:
    a[:] = b
"""
KINDS = {"busy1": (1, BUSY), "busy2": (2, BUSY), "busy4": (4, BUSY), "memory1": (1, MEMORY), "memory2": (2, MEMORY)}
BURST_S, PAUSE_S = (2.0, 10.0), (0.0, 6.0)


@contextmanager
def bursts(kind: str | None) -> Iterator[None]:
    """Make the machine busy until the block ends; None: leave it alone."""
    if kind is None:
        yield
        return
    count, program = KINDS[kind]
    over, rng = threading.Event(), random.Random(0)

    def work() -> None:
        while not over.is_set():
            processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(count)]
            over.wait(rng.uniform(*BURST_S))
            for process in processes:
                process.kill()
                process.wait()
            over.wait(rng.uniform(*PAUSE_S))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
