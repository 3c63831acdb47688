"""Notice a machine that has become slower: the same kernel, timed now and then."""

from __future__ import annotations

from collections.abc import Callable

from ofa_tvm.console import log
from ofa_tvm.kernels import KernelSpec

REFERENCE = KernelSpec("conv", 80, 96, 14, activation="hard_swish", bias=True)
"""Its default schedule is what is timed."""
EVERY_TRIALS = 50
TOO_SLOW = 1.25


class Drift:
    """Watches the time of a reference kernel.

    Args:
        time_ms: times the reference kernel; None where that failed.
    """

    def __init__(self, time_ms: Callable[[], float | None]) -> None:
        self._time_ms = time_ms
        self._fastest_ms: float | None = None
        self._next_at = 0
        self._was_slow = False
        self.worst = 1.0

    def watch(self, trials: int) -> None:
        """Call after each batch with the trials so far; times the reference when it is due, and says what changed."""
        if trials < self._next_at:
            return
        self._next_at = trials + EVERY_TRIALS
        now_ms = self._time_ms()
        if now_ms is None:
            return
        self._fastest_ms = min(now_ms, self._fastest_ms or now_ms)
        ratio = now_ms / self._fastest_ms
        self.worst = max(self.worst, ratio)
        is_slow = ratio > TOO_SLOW
        if is_slow and not self._was_slow:
            log(f"this machine is busy: a reference kernel takes {ratio:.2f}x its time; new times are too high")
        elif self._was_slow and not is_slow:
            log("this machine is as fast as before again")
        self._was_slow = is_slow
