"""Measuring on a shared machine: disturbed measurements are repeated a few times, after a wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from ofa_tvm.support.console import log

WAITS_S = (5.0, 15.0, 30.0)


def until_undisturbed(measure: Callable[[], int]) -> None:
    """Measure; while other processes disturb it, wait and measure again, a limited number of times.

    Args:
        measure: measures subnets without a sound result; returns how many of them were disturbed.
    """
    for wait_s in WAITS_S:
        disturbed = measure()
        if not disturbed:
            return
        log(f"other work disturbs this machine; measuring again in {wait_s:g} s ({disturbed} of the subnets)")
        time.sleep(wait_s)
    measure()
