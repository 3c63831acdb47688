"""How many cores this process may use: not how many the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

UNLIMITED = "max"
LOOK_S = 0.2
"""Seconds for which the load of the cores is observed."""


def idle_cores() -> int:
    """Cores of this process that are idle right now; at least one."""
    shares: list[float] = psutil.cpu_percent(LOOK_S, percpu=True)
    busy = sum(shares[core] for core in os.sched_getaffinity(0) if core < len(shares)) / 100
    return max(1, process_cores() - round(busy))


def process_cores(root: Path = Path("/")) -> int:
    """Cores that the process may run on and, within a control group's quota, keep busy; at least one.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    allowed = float(len(os.sched_getaffinity(0)))
    return max(1, int(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quota of each control group that the process is in, in cores; of version 2 and of version 1."""
    groups = root / "proc" / "self" / "cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys" / "fs" / "cgroup" / ("cpu" if controllers else "")
        group_folder = mount / group.lstrip("/")
        for folder in (group_folder, *group_folder.parents):
            quota = _quota_of(folder)
            if quota is not None:
                yield quota
            if folder == mount:
                break


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
            return None if quota == UNLIMITED else int(quota) / int(period)
        microseconds = int((folder / "cpu.cfs_quota_us").read_text())
        return None if microseconds < 0 else microseconds / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):  # no group of this kind, or one that may not be read
        return None
