"""Steps run as processes: results are kept, and a step that fails ends the run with its exit code."""

from __future__ import annotations

import json

import pytest

from ofa_tvm.support.steps import Step, StepFailed, run_steps


def test_what_a_step_prints_is_kept_and_returned(tmp_path):
    results = run_steps([Step("targets", ["--logs", str(tmp_path)])], tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "targets.json").read_text())
    assert results == {"targets": kept}
    assert "x86" in {row["name"] for row in kept["targets"]}


def test_a_step_that_fails_ends_the_run(tmp_path, capfd):
    steps = [Step("targets", []), Step("predict", ["--target", "no-such-target"]), Step("report", [])]
    with pytest.raises(StepFailed, match="predict ended with 2") as caught:
        run_steps(steps, tmp_path)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["targets.json"]
    assert "no subnet is named" in capfd.readouterr().err


def test_what_doctor_finds_wrong_is_said(tmp_path, capfd):
    with pytest.raises(StepFailed, match="doctor ended with 1"):
        run_steps([Step("doctor", ["--target", "no-such-target"])], tmp_path)
    assert "unknown target 'no-such-target'" in capfd.readouterr().err
