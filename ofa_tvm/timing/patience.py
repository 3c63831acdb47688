"""Measuring on a machine that others use: what is disturbed is measured again, a few times, after a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from ofa_tvm.support.console import log

WAITS_S = (5.0, 15.0, 30.0)


def until_undisturbed(measure: Callable[[], int]) -> None:
    """Measure; wait and measure again as long as others disturb it, but not for ever.

    Args:
        measure: measures what is not known soundly yet; how many subnets of it others disturbed.
    """
    for wait_s in WAITS_S:
        disturbed = measure()
        if not disturbed:
            return
        log(f"other work disturbs this machine; measuring again in {wait_s:g} s ({disturbed} of the subnets)")
        time.sleep(wait_s)
    measure()
