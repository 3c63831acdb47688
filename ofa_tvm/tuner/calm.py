"""Trials on a machine that others use: a trial beside which the machine was too slow is done again, after a wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from ofa_tvm.support.console import log
from ofa_tvm.support.errors import DeviceUnreachable
from ofa_tvm.tuner.trial import TrialResult

WAITS_S = (5.0, 15.0, 30.0, 60.0, 120.0)


def until_calm(trial: Callable[[], TrialResult], usual_ms: float | None, max_noise: float | None) -> TrialResult:
    """The result of a trial beside which the reference kernel took no longer than it may.

    A trial that took too long is done once more: a machine that hangs for a while says nothing about a candidate.

    Args:
        trial: tries a candidate.
        usual_ms: what the reference kernel usually takes.
        max_noise: how many times that it may take; None: any time, since results are scaled by it.

    Raises:
        DeviceUnreachable: the machine stays too slow.
    """
    result = trial()
    if result.status == "timed_out":
        result = trial()
    if usual_ms is None or max_noise is None:
        return result
    waits_s = iter(WAITS_S)
    while (slowness := (result.reference_ms or 0) / usual_ms) > max_noise:
        wait_s = next(waits_s, None)
        if wait_s is None:
            raise _too_busy(slowness, max_noise)
        log(f"this machine is busy: a reference kernel takes {slowness:.2f}x its time; trying again in {wait_s:g} s")
        time.sleep(wait_s)
        result = trial()
    return result


def _too_busy(slowness: float, max_noise: float) -> DeviceUnreachable:
    return DeviceUnreachable(
        f"this machine stays too busy: a reference kernel takes {slowness:.2f}x its usual time, --max-noise allows "
        f"{max_noise:g}x",
        "end other work, or raise --max-noise; what was measured is saved: run the same command again to go on",
    )
