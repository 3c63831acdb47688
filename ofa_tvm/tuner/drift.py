"""Notice a machine that has become slower: the same kernel, timed beside every trial."""

from __future__ import annotations

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.console import warn

REFERENCE = KernelSpec("conv", 80, 96, 14, activation="hard_swish", bias=True)
"""Its default schedule is what is timed."""
TOO_SLOW = 1.25


class Drift:
    """Watches the time of a reference kernel; ``worst`` is its slowest time over its fastest."""

    def __init__(self) -> None:
        self._fastest_ms: float | None = None
        self._was_slow = False
        self.worst = 1.0

    def watch(self, now_ms: float) -> None:
        """Call with the reference kernel's time after each batch; says what changed."""
        self._fastest_ms = min(now_ms, self._fastest_ms or now_ms)
        ratio = now_ms / self._fastest_ms
        self.worst = max(self.worst, ratio)
        is_slow = ratio > TOO_SLOW
        if is_slow and not self._was_slow:
            warn(f"this machine is busy: a reference kernel takes {ratio:.2f}x its time; new times allow for it")
        elif self._was_slow and not is_slow:
            warn("this machine is as fast as before again")
        self._was_slow = is_slow
