"""The tuning loop on a replay device: order, budgets, resume, and what it does when everything fails."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from itertools import cycle

import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.devices.replay import ReplayDevice, made_up_result
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import get_space
from ofa_tvm.support import console
from ofa_tvm.support.errors import DeviceUnreachable, HostFault, UserError
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget, Tuner
from ofa_tvm.tuner.trial import TrialResult, TrialStatus
from ofa_tvm.tuner.urgency import kernel_frequencies

BATCH = 4
NO_LIMIT = Budget(trials=None, seconds=None, trials_per_kernel=12)


@dataclass
class ListSource:
    """Proposes numbered candidates that the ledger does not know; remembers what it was told."""

    kernel: str
    tried: set[str]
    length: int = 100
    told: list[list[TrialResult]] = field(default_factory=list)

    def ask(self, count):
        numbered = (
            Candidate(self.kernel, "template", {"parameters": {"number": number}}) for number in range(self.length)
        )
        return [candidate for candidate in numbered if candidate.digest not in self.tried][:count]

    def tell(self, results):
        self.told.append(results)


class Setting:
    """Everything a tuner needs, on the kernels of a tiny space."""

    def __init__(self, space, folder, device=None, length=100, kernels=3):
        every = fused_kernels(space, (12,))
        self.kernels = {key: every[key] for key in sorted(every)[:kernels]}
        self.frequencies = {key: 1.0 + number for number, key in enumerate(self.kernels)}
        self.log = TuningLog(load_target("x86"), folder)
        self.device = device or ReplayDevice({}, made_up_result)
        self.length = length
        self.sources = {}

    def source(self, spec):
        self.sources[spec.key] = ListSource(spec.key, self.log.tried, self.length)
        return self.sources[spec.key]

    def run(self, budget=NO_LIMIT):
        tuner = Tuner(self.kernels, self.frequencies, self.log, self.device, self.source, BATCH, first_batch=BATCH)
        with self.log.exclusive():
            return tuner.run(budget)

    def trials(self):
        return {key: state.trials for key, state in self.log.kernels.items()}


@pytest.fixture
def setting(tiny_space, tmp_path):
    def make(**options):
        return Setting(tiny_space, tmp_path, **options)

    return make


class Recorder(ReplayDevice):
    """Remembers the order of kernels and the best time that each trial had to beat."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = []

    def trial(self, spec, candidate, best_ms):
        self.seen.append((spec.key, best_ms))
        return super().trial(spec, candidate, best_ms)

    def order(self):
        return list(dict.fromkeys(key for key, _ in self.seen))


def test_untried_kernels_come_first_by_frequency_times_flops(setting):
    whole = setting(device=Recorder({}, made_up_result), kernels=6)
    whole.run(Budget(6 * BATCH, None, 100))
    expected = sorted(whole.kernels, key=lambda key: -whole.frequencies[key] * whole.kernels[key].flops)
    assert whole.device.order() == expected
    assert set(whole.trials().values()) == {BATCH}


def test_then_the_costliest_kernel_is_next(setting):
    whole = setting(device=Recorder({}, lambda spec, candidate: TrialResult("ok", (1.0,), is_checked=True)))
    whole.frequencies = dict(zip(whole.kernels, (1.0, 100.0, 10.0), strict=True))
    whole.run(Budget(3 * BATCH, None, 100))
    whole.device.seen.clear()
    whole.run(Budget(BATCH, None, 100))
    assert whole.device.order() == [list(whole.kernels)[1]]


@pytest.mark.parametrize("trials", [0, 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_trial_budget_is_exact(setting, trials):
    whole = setting()
    done = whole.run(Budget(trials, None, 100))
    assert done.trials == sum(whole.device.calls.values()) == trials
    assert done.stopped_by == "trial budget"


@pytest.mark.parametrize("limit", [1, BATCH - 1, BATCH + 1])
def test_no_kernel_has_more_trials_than_its_limit(setting, limit):
    whole = setting(device=ReplayDevice({}, lambda spec, candidate: falling(candidate)))
    done = whole.run(Budget(None, None, limit))
    assert set(whole.trials().values()) == {limit}
    assert done.trials == 3 * limit
    assert whole.run(Budget(None, None, limit)).trials == 0


def falling(candidate):
    """Every candidate is better than the one before."""
    time_ms = 1.0 / (1 + candidate.schedule["parameters"]["number"])
    return TrialResult("ok", (time_ms,), is_checked=True)


def test_time_budget(setting, monkeypatch):
    clock = {"now": 0.0}

    def ten_seconds(spec, candidate):
        clock["now"] += 10
        return made_up_result(spec, candidate)

    whole = setting(device=ReplayDevice({}, ten_seconds))
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    done = whole.run(Budget(None, 10.0 * BATCH + 1, 100))
    assert (done.trials, done.seconds, done.stopped_by) == (2 * BATCH, 20.0 * BATCH, "time budget")


def test_progress_says_the_best_failures_by_kind_and_what_may_still_shrink(setting, capfd):
    """A sum of the kernels' times is told only once all of them have one."""
    console.set_level("verbose")
    statuses: cycle[TrialStatus] = cycle(("ok", "crashed", "failed", "crashed"))

    def some_fail(spec, candidate):
        status = next(statuses)
        return TrialResult(status, (1.0,) if status == "ok" else (), "" if status == "ok" else "why", status == "ok")

    try:
        done = setting(device=ReplayDevice({}, some_fail)).run(Budget(None, None, 10_000))
    finally:
        console.set_level("usual")
    said = capfd.readouterr().err.splitlines()
    progress = [line for line in said if "tuning: " in line]
    assert "  1/3 tuned; 2 crashed, 1 failed; more trials may shorten 100% of the tuned time; " in progress[0]
    assert "  6.000 ms a subnet; 6 crashed, 3 failed; more trials may shorten 100% of the tuned time; " in progress[2]
    assert "; more trials may shorten 0% of the tuned time; " in progress[-1]
    assert done.failures == sum(done.failures_by_kind.values()) == sum(": why" in line for line in said)
    assert set(done.failures_by_kind) == {"crashed", "failed"}


def test_a_kernel_that_no_longer_gains_is_left(setting):
    whole = setting(device=ReplayDevice({}, lambda spec, candidate: TrialResult("ok", (1.0,), is_checked=True)))
    done = whole.run(Budget(None, None, 10_000))
    assert done.stopped_by == "nothing left that promises a gain"
    assert max(whole.trials().values()) <= 6 * BATCH


def test_a_kernel_that_gains_goes_on(setting):
    whole = setting(device=ReplayDevice({}, lambda spec, candidate: falling(candidate)))
    whole.run(Budget(None, None, 10_000))
    assert set(whole.trials().values()) == {100}


def test_exhausted_sources_end_the_run(setting):
    whole = setting(length=5)
    done = whole.run()
    assert done.trials == 15
    assert whole.run().trials == 0


def test_sources_without_any_candidate(setting):
    whole = setting(length=0)
    done = whole.run()
    assert (done.trials, done.kernels) == (0, 0)
    assert whole.log.kernels == {}


@pytest.mark.parametrize("status", ["failed", "crashed", "timed_out", "wrong_output"])
def test_kernels_that_only_fail_do_not_go_on_for_ever(setting, status):
    whole = setting(device=ReplayDevice({}, lambda spec, candidate: TrialResult(status, error="reason")))
    done = whole.run(Budget(None, None, 10_000))
    assert done.trials == done.failures <= 3 * 6 * BATCH
    assert all(state.best_ms is None for state in whole.log.kernels.values())
    assert whole.log.winners == {}


def test_summary_counts(setting):
    def every_third_fails(spec, candidate):
        return (
            TrialResult("failed")
            if candidate.schedule["parameters"]["number"] % 3 == 0
            else made_up_result(spec, candidate)
        )

    whole = setting(device=ReplayDevice({}, every_third_fails))
    done = whole.run(Budget(None, None, 6))
    assert (done.trials, done.failures, done.kernels) == (18, 6, 3)
    assert done.seconds >= 0


def test_the_best_so_far_is_passed_on_and_results_are_told(setting):
    whole = setting(device=Recorder({}, lambda spec, candidate: falling(candidate)), kernels=1)
    whole.run(Budget(6, None, 100))
    assert [best_ms for _, best_ms in whole.device.seen] == [None, 1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
    (source,) = whole.sources.values()
    assert [[result.best_ms for result in told] for told in source.told] == [[1.0, 1 / 2, 1 / 3, 1 / 4], [1 / 5, 1 / 6]]


class Interrupted(ReplayDevice):
    """Raises KeyboardInterrupt at one trial, once."""

    def __init__(self, at):
        super().__init__({}, made_up_result)
        self.left = at

    def trial(self, spec, candidate, best_ms):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().trial(spec, candidate, best_ms)


@pytest.mark.parametrize("at", [1, 2, BATCH, BATCH + 1, 2 * BATCH + 2])
def test_an_interrupt_loses_only_its_own_trial(tiny_space, tmp_path, at):
    device = Interrupted(at)
    first = Setting(tiny_space, tmp_path, device)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    saved = at - 1
    resumed = Setting(tiny_space, tmp_path, device)
    assert sum(resumed.trials().values()) == len(resumed.log.tried) == saved
    resumed.run()
    assert set(device.calls.values()) == {1}


def test_a_lost_device_loses_no_finished_trial(setting):
    def lost(spec, candidate):
        if candidate.schedule["parameters"]["number"] == BATCH - 1:
            raise DeviceUnreachable("gone")
        return made_up_result(spec, candidate)

    whole = setting(device=ReplayDevice({}, lost), kernels=1)
    with pytest.raises(DeviceUnreachable):
        whole.run()
    assert list(whole.trials().values()) == [BATCH - 1]
    assert len(whole.log.tried) == BATCH - 1


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tiny_space, tmp_path):
    whole = Setting(tiny_space, tmp_path / "whole")
    whole.run()
    device = ReplayDevice({}, made_up_result)
    for _ in range(20):
        last = Setting(tiny_space, tmp_path / "parts", device)
        last.run(Budget(BATCH, None, NO_LIMIT.trials_per_kernel))
    assert set(device.calls.values()) == {1}
    assert last.log.kernels == whole.log.kernels
    assert last.log.winners == whole.log.winners


def test_a_log_replays_as_it_was_recorded(tiny_space, tmp_path):
    def some_fail(spec, candidate):
        return (
            TrialResult("crashed", error="killed")
            if candidate.schedule["parameters"]["number"] == 2
            else made_up_result(spec, candidate)
        )

    recorded = Setting(tiny_space, tmp_path / "recorded", ReplayDevice({}, some_fail))
    recorded.run()
    replayed = Setting(tiny_space, tmp_path / "replayed", ReplayDevice.from_log(recorded.log.folder))
    replayed.run()
    assert replayed.log.kernels == recorded.log.kernels
    assert replayed.log.winners == recorded.log.winners
    found, expected = (which.log.folder / "trials.jsonl" for which in (replayed, recorded))
    assert found.read_text() == expected.read_text()


def test_what_was_not_recorded_fails(setting):
    whole = setting(device=ReplayDevice({}))
    done = whole.run(Budget(1, None, 100))
    assert done.failures == 1


def test_a_recording_of_another_form_is_refused(tmp_path):
    (tmp_path / "trials.jsonl").write_text('{"digest": "1"}\n')
    with pytest.raises(UserError, match="line 1, is damaged: missing key 'kernel'"):
        ReplayDevice.from_log(tmp_path)


def test_records_of_a_recording_without_a_reference_are_left_out(tmp_path):
    space = get_space("mbv3-cifar")
    new = LatencyRecord(
        space=space.name,
        subnet=space.smallest.key,
        status="ok",
        times_ms=(0.2,),
        reference_ms=(0.5,),
        schedules="s",
        provenance="measured",
        measured_at="2026",
    )
    append_records(tmp_path, [replace(new, subnet=space.largest.key, reference_ms=()), new])
    assert ReplayDevice.from_log(tmp_path).subnets(space) == [space.smallest]


def test_frequencies_are_mean_calls_of_a_subnet(tiny_space):
    kernels = fused_kernels(tiny_space, (12,))
    frequencies = kernel_frequencies(tiny_space, (12,))
    assert frequencies.keys() == kernels.keys()
    assert min(frequencies.values()) > 0
    for kernel in (steps := fused_steps(tiny_space.network(tiny_space.uniform(12, 1, 3, 2))))[0], steps[-1]:
        assert frequencies[kernel.kernel.key] == pytest.approx(1, abs=0.01)
    assert kernel_frequencies(tiny_space, (12,)) == frequencies


@pytest.mark.parametrize("module", ["tuner.candidate", "tuner.log", "tuner.loop", "devices.replay"])
def test_the_loop_runs_without_tvm_and_torch(module):
    code = f"import sys, ofa_tvm.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tvm", "tvm_ffi", "torch"} & set(done.stdout.split())


def test_reference_times_of_the_trials_are_watched(setting):
    references = iter([1.0] * BATCH + [1.5] * 2 * BATCH)

    def answer(spec, candidate):
        return replace(made_up_result(spec, candidate), reference_ms=next(references))

    whole = setting(device=ReplayDevice({}, answer))
    assert whole.run(Budget(3 * BATCH, None, 100)).slowest_reference == 1.5


def test_a_fault_of_the_machine_is_held_against_nothing(setting):
    class Full(ReplayDevice):
        """Its disk is full at the third trial, until somebody makes room."""

        is_full, left = True, 3

        def trial(self, spec, candidate, best_ms):
            self.left -= 1
            if self.left == 0 and self.is_full:
                raise HostFault("no space left on device", "make room")
            return super().trial(spec, candidate, best_ms)

    device = Full({}, made_up_result)
    whole = setting(device=device, kernels=2)
    with pytest.raises(HostFault):
        whole.run(Budget(8, None, 100))
    tried = len(whole.log.tried)
    assert tried == 2, "those before it count"
    device.is_full = False
    whole.run(Budget(8, None, 100))
    assert len(whole.log.tried) == tried + 8
    assert {device.calls[digest] for digest in whole.log.tried} == {1}
