"""Intervals, coverage and budgets in words."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import how_to_tune
from ofa_tvm.measurement.latency_bench import warn_of_estimates
from ofa_tvm.measurement.tuning_session import TuningReport
from ofa_tvm.nas.feasibility import all_infeasible
from ofa_tvm.nas.objectives import LATENCY
from ofa_tvm.reporting.interval import interval_text
from ofa_tvm.reporting.prediction_text import coverage_text
from ofa_tvm.reporting.tuning_text import _mean_subnet, plan_text, tuning_text
from ofa_tvm.spaces import SPACES
from ofa_tvm.spaces.own_model import fixed_model
from ofa_tvm.support.command import STEPS_BEFORE
from ofa_tvm.support.errors import Infeasible
from ofa_tvm.support.ledger import estimated
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.coverage import coverage
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import TuningSummary
from ofa_tvm.tuner.trial import KernelState, TrialResult
from ofa_tvm.tuner.tuned_space import TunedSpace


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.097, 0.098, "0.097-0.098"),
        (0.43712, 0.43718, "0.4371-0.4372"),
        (0.5, 0.5, "-"),
        (0.5, 0.500000001, "-"),
        (None, None, "-"),
        (12.0, 15.5, "12.000-15.500"),
    ],
)
def test_an_interval_of_no_width_is_none(low, high, text):
    assert interval_text(low, high) == text


@pytest.fixture
def partly_tuned(tiny_space, tmp_path):
    """The tiny space with two kernels tuned, and a function that tunes the others."""
    tuned = TunedSpace(tiny_space, load_target("x86"), TuningLog(load_target("x86"), tmp_path))
    keys = list(tuned.kernels())

    def tune(some):
        tuned.log.kernels.update({key: KernelState(key, best_ms=1.0, trials=1) for key in some})
        return tuned

    tune(keys[:2])
    return tuned, lambda: tune(keys)


def test_a_few_kernels_are_never_summed_to_a_forecast(partly_tuned):
    tuned, tune_all = partly_tuned
    sizes = tuned.space.resolutions
    state, count = coverage(tuned, sizes), len(tuned.kernels())
    assert (state.tuned, state.mean_subnet_ms, state.record()["mean_subnet_ms"]) == (2, None, None)
    assert "ms" not in _mean_subnet(state)
    assert "not known" in _mean_subnet(state)
    assert coverage_text(tuned) == f"; only 2 of {count} kernels are tuned, others run default schedules"
    tune_all()
    state = coverage(tuned, sizes)
    assert state.mean_subnet_ms is not None
    assert state.mean_subnet_ms == pytest.approx(sum(tuned.frequencies(sizes).values()))
    assert _mean_subnet(state) == f"a mean subnet's take {state.mean_subnet_ms:.3f} ms"
    assert coverage_text(tuned) == ""


@pytest.mark.parametrize(
    ("stopped_by", "is_whole", "said"),
    [
        ("trial budget", False, "goes on from here: more trials tune the kernels that are left"),
        ("time budget", True, "goes on from here: more trials may find faster schedules"),
        ("nothing left that promises a gain", True, None),
    ],
)
def test_what_more_trials_would_give(partly_tuned, stopped_by, is_whole, said):
    tuned, tune_all = partly_tuned
    if is_whole:
        tune_all()
    summary = TuningSummary(2, 0, 2, 1.0, stopped_by)
    done = TuningReport(summary, estimated("tune", 1.0, 1.0), coverage(tuned, tuned.space.resolutions), None)
    payload = {"kernels": 9, "trials_per_second": 2.0, "provenance": "measured", "folder": "l"}
    text = tuning_text(payload, done)
    assert ("goes on" in text) == (said is not None)
    assert (said or "") in text


@pytest.mark.parametrize(("is_tuned", "said"), [(True, "(f, measured): 9 kernels"), (False, "(f): 9 kernels")])
def test_a_plan_calls_times_measured_where_there_are_any(partly_tuned, is_tuned, said):
    tuned, _ = partly_tuned
    if not is_tuned:
        tuned.log.kernels.clear()
    facts = {
        "space": "tiny",
        "target": "x86",
        "fingerprint": "f",
        "provenance": "measured",
        "kernels": 9,
        "folder": "l",
    }
    payload = {**facts, "folder": "l", "planned_s": 1, "planned_trials": 5}
    text = plan_text(payload, coverage(tuned, tuned.space.resolutions), show_kernels=False)
    assert said in text
    assert "at most 5 trials, about 1.00 s\n" in text


@pytest.mark.parametrize(("supernet", "said"), [(Path("my/model"), "--supernet my/model"), (None, "--supernet FOLDER")])
def test_a_hint_names_the_folder_of_a_model_where_it_is_known(tmp_path, supernet, said):
    space = SPACES["mbv3-cifar"]
    own = fixed_model("mine", space.network(space.smallest))
    assert said in how_to_tune(own, TuningLog(load_target("x86"), tmp_path), supernet=supernet)


def test_a_hint_names_the_targets_file_and_its_device(tmp_path):
    text = (shipped_folder("targets") / "x86.toml").read_text()
    (tmp_path / "mine.toml").write_text(text)
    log = TuningLog(load_target(str(tmp_path / "mine.toml"), device="local"), tmp_path)
    assert f"tune --target {tmp_path}/mine.toml --device local --space" in how_to_tune(SPACES["mbv3-cifar"], log)


def test_a_hint_of_missing_latencies_asks_for_no_candidates_beside_them(tmp_path):
    target = load_target("cuda-sm90")
    log, space = TuningLog(target, tmp_path), SPACES["mbv3-cifar"]
    assert "--trials 0" not in how_to_tune(space, log, " --samples 60")
    kernel = "conv_8x8_16-32_k1s1_b1"
    with log.exclusive():
        log.commit(kernel, [(Candidate(kernel, "default", {}), TrialResult("ok", (0.1,), is_checked=True))])
    assert f"--samples 60 --logs {tmp_path} --trials 0 --export-pack FOLDER" in how_to_tune(space, log, " --samples 60")
    assert "--trials 0" not in how_to_tune(space, log)


def test_a_hint_names_classes_that_are_not_the_spaces_own(tmp_path):
    log, space = TuningLog(load_target("x86"), tmp_path), SPACES["mbv3-cifar"]
    assert "--space mbv3-cifar --classes 5 --samples 60" in how_to_tune(space.with_classes(5), log, " --samples 60")
    assert "--classes" not in how_to_tune(space, log)


@pytest.mark.parametrize(("before", "is_said"), [("", True), ("doctor", True), ("doctor tune", False)])
def test_kernels_that_are_not_tuned_are_told_once(tmp_path, monkeypatch, capsys, before, is_said):
    monkeypatch.setenv(STEPS_BEFORE, before)
    tuned = TunedSpace(SPACES["mbv3-cifar"], target := load_target("x86"), log := TuningLog(target, tmp_path))
    bench: Any = SimpleNamespace(tuned=tuned, space=tuned.space, target=target, log=log)
    warn_of_estimates(bench)
    said = capsys.readouterr().err
    assert bool(said) == is_said
    if is_said:
        assert re.match(r"beware: (\d+) of \1 kernels of mbv3-cifar are not tuned for x86: ", said)
        assert "; for better kernels: 'python -m ofa_tvm.tune --target x86 --space mbv3-cifar --logs" in said


def latency_error(budget):
    return Infeasible(f"nothing within {budget:g} ms", "try 1", {"limit": LATENCY, "value": 0.9, "subnet": "r32"})


def test_several_budgets_that_cannot_be_met_are_one_sentence():
    budgets = [0.1, 0.3, 0.2]
    error = all_infeasible([latency_error(budget) for budget in budgets], budgets)
    assert error.what == "nothing within 0.3 ms; nor, then, within 0.1, 0.2 ms"
    assert error.hint == "try 1"
    assert all_infeasible([latency_error(0.1)], [0.1]).what == "nothing within 0.1 ms"
    size = Infeasible("no subnet is so small", "", {"limit": "size", "value": 1.0, "subnet": "r32"})
    assert all_infeasible([size, size], [0.1, 0.2]).what == "no subnet is so small"
    assert all_infeasible([size], []).what == "no subnet is so small"
