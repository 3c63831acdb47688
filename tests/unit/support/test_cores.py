"""Cores of the process: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import os

import pytest

from ofa_tvm.support.cores import process_cores


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))

    def written(**files):
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return written


def test_affinity_counts(write, monkeypatch):
    assert process_cores(write()) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    assert process_cores(write()) == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 8), ("nonsense", 8), ("", 8)],
)
def test_a_quota_counts(write, quota, cores):
    root = write(proc__self__cgroup="0::/a/b\n")
    path = root / "sys" / "fs" / "cgroup" / "a"
    path.mkdir(parents=True)
    (path / "cpu.max").write_text(quota)
    assert process_cores(root) == cores, "a parent's quota is one of the process's, too"


def test_a_quota_of_the_first_version_counts(write):
    root = write(proc__self__cgroup="4:memory:/m\n3:cpu,cpuacct:/box\n")
    path = root / "sys" / "fs" / "cgroup" / "cpu" / "box"
    path.mkdir(parents=True)
    (path / "cpu.cfs_quota_us").write_text("300000")
    (path / "cpu.cfs_period_us").write_text("100000")
    assert process_cores(root) == 3
    (path / "cpu.cfs_quota_us").write_text("-1")
    assert process_cores(root) == 8
