"""Waiting for a machine that others use."""

import time

import pytest

from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.patience import VARIABLE, until_undisturbed


@pytest.fixture
def waited(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    return waits


def test_an_undisturbed_machine_is_not_waited_for(waited):
    until_undisturbed(lambda: 0)
    assert waited == []


def test_disturbed_subnets_are_measured_again_after_longer_and_longer_waits(waited):
    disturbed = iter([3, 1, 0])
    until_undisturbed(lambda: next(disturbed))
    assert waited == [5, 15]


def test_it_ends_after_some_waits_even_on_a_busy_machine(waited):
    until_undisturbed(lambda: 1)
    assert waited == [5, 15, 30]


def test_the_longest_wait_may_be_shorter(waited, monkeypatch):
    monkeypatch.setenv(VARIABLE, "7.5")
    until_undisturbed(lambda: 1)
    assert waited == [5, 7.5, 7.5]


@pytest.mark.parametrize("said", ["-1", "nan", "1e3", "soon", "12345678"])
def test_what_is_no_number_of_seconds_is_refused(said, waited, monkeypatch):
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(UserError, match=rf"{VARIABLE}={said} is no number of seconds"):
        until_undisturbed(lambda: pytest.fail("measured"))
