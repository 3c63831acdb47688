"""Winners timed again: times change, the winner only where the default schedule beats it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.replay import ReplayDevice
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.retime import retime
from ofa_tvm.tuner.trial import TrialResult

WON = {"template": "some", "parameters": {"width": 8}}


@pytest.fixture
def kernels(tiny_space):
    every = fused_kernels(tiny_space, (12,))
    return {key: every[key] for key in sorted(every)[:3]}


@pytest.fixture
def log(kernels, tmp_path):
    log = TuningLog(load_target("x86"), tmp_path)
    with log.exclusive():
        for key in list(kernels)[:2]:
            log.commit(key, [(Candidate(key, "template", WON), TrialResult("ok", (2.0,), is_checked=True))])
    return log


def timed(log, kernels, winner, default):
    """Time again with these results; the states before and after."""
    before = dict(log.kernels)
    device = ReplayDevice({}, lambda spec, candidate: default if candidate.source == "default" else winner)
    with log.exclusive():
        count = retime(log, device, kernels, load_target("x86").attributes)
    return count, before, TuningLog(load_target("x86"), log.root).kernels


def test_times_are_replaced_and_nothing_else(log, kernels):
    winner, default = TrialResult("ok", (3.0, 2.5), is_checked=True), TrialResult("ok", (4.0,))
    count, before, after = timed(log, kernels, winner, default)
    assert count == 2  # the third was never tuned
    assert after == {key: replace(state, best_ms=2.5, default_ms=4.0) for key, state in before.items()}


def test_a_default_that_is_faster_wins(log, kernels):
    winner, default = TrialResult("ok", (3.0,), is_checked=True), TrialResult("ok", (2.0,), is_checked=True)
    _, before, after = timed(log, kernels, winner, default)
    for key, state in after.items():
        assert (state.best_ms, state.default_ms, state.source) == (2.0, 2.0, "default")
        assert state.schedule not in (WON, {}, None)
        assert state.trials == before[key].trials


def test_a_winner_that_cannot_be_timed_stays_as_it_is(log, kernels):
    count, before, after = timed(log, kernels, TrialResult("failed", error="no"), TrialResult("ok", (2.0,)))
    assert (count, after) == (0, before)
