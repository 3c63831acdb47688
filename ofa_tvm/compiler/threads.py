"""How many threads compiled subnets use in this process."""

from __future__ import annotations

import os


def use_threads(threads: int) -> None:
    """Limit TVM's runtime to that many threads; it reads this once, when it first runs something in parallel."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
