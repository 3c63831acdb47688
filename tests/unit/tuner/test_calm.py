"""Slow and hanging machines under the loop, and answers that cannot be."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.replay import ReplayDevice, made_up_result
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.errors import DeviceUnreachable, UserError
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import SubnetTiming
from ofa_tvm.tuner.trial import TrialResult

USUAL_MS = 0.05
NAN, INFINITY = float("nan"), float("inf")


class Shared(ReplayDevice):
    """Its reference kernel takes the given multiples of its usual time, one for each trial; None: the trial hangs."""

    reference_ms = USUAL_MS

    def __init__(self, *slowness, max_noise=1.5):
        super().__init__({}, made_up_result)
        self.slowness, self.max_noise = list(slowness), max_noise

    def trial(self, spec, candidate, best_ms):
        now = self.slowness.pop(0)
        if now is None:
            return TrialResult("timed_out", error="took longer than 20 s")
        result = super().trial(spec, candidate, best_ms)
        return replace(result, times_ms=(now * result.times_ms[0],), reference_ms=now * USUAL_MS)


@pytest.fixture
def waits(monkeypatch):
    """What the loop waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def results(space, device, count=2):
    kernel = next(iter(fused_kernels(space, (12,)).values()))
    candidates = [Candidate(kernel.key, "template", {"parameters": {"number": number}}) for number in range(count)]
    expected = [made_up_result(kernel, candidate).times_ms for candidate in candidates]
    return [result.times_ms for result in device.trials(kernel, candidates, None)], expected


def test_a_slow_while_is_waited_out(tiny_space, waits, capsys):
    found, expected = results(tiny_space, Shared(1.0, 10.0, 10.0, 1.2))
    assert found == [expected[0], (1.2 * expected[1][0],)]
    assert waits == [5.0, 15.0]
    assert "a reference kernel takes 10.00x its time; trying again in 5 s" in capsys.readouterr().err


def test_a_machine_that_stays_slow_ends_the_run(tiny_space, waits):
    with pytest.raises(DeviceUnreachable, match=r"takes 10\.00x its usual time, --max-noise allows 1\.5x\n.*is saved"):
        results(tiny_space, Shared(*[10.0] * 20))
    assert sum(waits) < 600


def test_without_a_limit_nothing_is_waited_for(tiny_space, waits):
    found, expected = results(tiny_space, Shared(1.0, 10.0, max_noise=None))
    assert found == [expected[0], (10 * expected[1][0],)]
    assert waits == []


def test_one_hang_is_not_held_against_a_candidate(tiny_space, waits):
    found, expected = results(tiny_space, Shared(None, 1.0, 1.0))
    assert found == expected
    assert results(tiny_space, Shared(None, None, 1.0))[0][0] == ()


@pytest.mark.parametrize("limit", [1.0, 0.0, -2.0, NAN, INFINITY])
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(UserError, match="is no limit"):
        load_target("x86").with_max_noise(limit)


def test_a_limit_does_not_change_the_conditions():
    target = load_target("x86")
    assert target.with_max_noise(2.0).fingerprint == target.fingerprint


@pytest.mark.parametrize(
    "answer",
    [
        {"times_ms": []},
        {"times_ms": [NAN]},
        {"times_ms": [1.0, -1.0]},
        {"times_ms": [0.0]},
        {"times_ms": [1e30]},
        {"times_ms": [INFINITY]},
        {"times_ms": None},
        {"times_ms": "fast"},
        {"times_ms": [1.0], "reference_ms": NAN},
        {"times_ms": [1.0], "status": "fine"},
        {"times_ms": [1.0], "error": 5},
        {},
    ],
)
def test_an_answer_that_cannot_be_is_a_failure_of_the_trial(answer):
    result = TrialResult.of_answer({"status": "ok", **answer})
    assert (result.status, result.best_ms) == ("failed", None)
    assert result.error.startswith("the answer cannot be")


@pytest.mark.parametrize(
    "answer",
    [
        {"times_ms": [1.0], "reference_ms": []},
        {"times_ms": [1.0], "reference_ms": [1.0, 1.0]},
        {"times_ms": [], "reference_ms": []},
        {"times_ms": [NAN], "reference_ms": [1.0]},
        {"times_ms": [1.0], "reference_ms": [-1.0]},
        {"times_ms": [1.0], "reference_ms": [1.0], "figures": [[1.0, 2.0]]},
        {"times_ms": [1.0], "reference_ms": [1.0], "figures": [[NAN] * 10]},
    ],
)
def test_an_answer_that_cannot_be_is_a_failure_of_the_subnet(answer):
    timing = SubnetTiming.of_answer({"status": "ok", **answer})
    assert (timing.status, timing.times_ms) == ("failed", ())
