"""Measuring on a shared machine: disturbed measurements are repeated a few times, after a wait."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError

WAITS_S = (5.0, 15.0, 30.0)
VARIABLE = "OFA_TVM_LONGEST_WAIT_S"


def until_undisturbed(measure: Callable[[], int]) -> None:
    """Measure; while other processes disturb it, wait and measure again, a limited number of times.

    Args:
        measure: measures subnets without a sound result; returns how many of them were disturbed.

    Raises:
        UserError: ``OFA_TVM_LONGEST_WAIT_S`` is no number of seconds.
    """
    longest_s = _longest_s()
    for usual_s in WAITS_S:
        disturbed = measure()
        if not disturbed:
            return
        wait_s = min(usual_s, longest_s)
        log(f"other work disturbs this machine; measuring again in {wait_s:g} s ({disturbed} of the subnets)")
        time.sleep(wait_s)
    measure()


def _longest_s() -> float:
    said = os.environ.get(VARIABLE) or f"{WAITS_S[-1]:g}"
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", said, re.ASCII):
        raise UserError(f"{VARIABLE}={said} is no number of seconds", f"for example {VARIABLE}={WAITS_S[-1]:g}")
    return float(said)
