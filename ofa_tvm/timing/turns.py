"""Windows of several subjects in turn, some seconds apart: changes of the machine affect all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class WindowPlan:
    """How long to measure.

    Args:
        windows: windows of each subject.
        window_ms: length of one.
        gap_s: the least time from the start of a window to the start of the same subject's next.
        busy_cores: cores to keep busy meanwhile.
    """

    windows: int
    window_ms: float
    gap_s: float
    busy_cores: int = 0


def in_turn(subjects: Sequence[Callable[[], Result]], plan: WindowPlan) -> list[list[Result]]:
    """The results of each subject, one for each of its windows.

    Args:
        subjects: each times one window when it is called.
        plan: how many windows, and how far apart.
    """
    results: list[list[Result]] = [[] for _ in subjects]
    for number in range(plan.windows):
        start = time.monotonic()
        for subject, subject_results in zip(subjects, results, strict=True):
            subject_results.append(subject())
        if number + 1 < plan.windows:
            time.sleep(max(0.0, start + plan.gap_s - time.monotonic()))
    return results
