"""A machine that becomes slower is noticed once, and so is its recovery."""

import pytest

from ofa_tvm.tuner.drift import Drift


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("ofa_tvm.tuner.drift.warn", lines.append)
    return lines


def watch(times):
    drift = Drift()
    for now_ms in times:
        drift.watch(now_ms)
    return drift


def test_a_steady_machine_says_nothing(said):
    assert watch([1.0, 1.1, 0.9, 1.05]).worst == pytest.approx(1.05 / 0.9)
    assert said == []


def test_a_busy_machine_is_named_once_and_again_when_it_is_free(said):
    assert watch([1.0, 1.5, 2.0, 1.0, 1.4]).worst == 2.0
    assert [("busy" in line, "again" in line) for line in said] == [(True, False), (False, True), (True, False)]
    assert "1.50x" in said[0]
