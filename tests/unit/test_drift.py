"""A machine that becomes slower is noticed once, and so is its recovery."""

import pytest

from ofa_tvm.tuner.drift import EVERY_TRIALS, Drift


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("ofa_tvm.tuner.drift.log", lines.append)
    return lines


def watch(times):
    left = iter(times)
    drift = Drift(lambda: next(left))
    for number in range(len(times)):
        drift.watch(number * EVERY_TRIALS)
    return drift


def test_a_steady_machine_says_nothing(said):
    assert watch([1.0, 1.1, 0.9, 1.05]).worst == pytest.approx(1.05 / 0.9)
    assert said == []


def test_a_busy_machine_is_named_once_and_again_when_it_is_free(said):
    assert watch([1.0, 1.5, 2.0, 1.0, 1.4]).worst == 2.0
    assert [("busy" in line, "again" in line) for line in said] == [(True, False), (False, True), (True, False)]
    assert "1.50x" in said[0]


def test_a_failed_reference_is_no_time(said):
    assert watch([1.0, None, 1.0]).worst == 1.0
    assert said == []


def test_the_reference_is_timed_now_and_then():
    count = []
    drift = Drift(lambda: count.append(1) or 1.0)
    for trials in range(2 * EVERY_TRIALS + 1):
        drift.watch(trials)
    assert len(count) == 3
