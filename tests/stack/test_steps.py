"""Steps run as processes: results are kept, and a step that fails ends the run with its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from ofa_tvm.support import steps
from ofa_tvm.support.command import STEPS_BEFORE
from ofa_tvm.support.steps import Step, StepFailed, _run, run_steps


def test_what_a_step_prints_is_kept_and_returned(tmp_path):
    results = run_steps([Step("targets", ["--logs", str(tmp_path)])], tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "targets.json").read_text())
    assert results == {"targets": kept}
    assert "x86" in {row["name"] for row in kept["targets"]}


def test_a_step_knows_what_ran_before_it(tmp_path, monkeypatch):
    said = "import json, os, sys; json.dump({'before': os.environ['OFA_TVM_STEPS_BEFORE']}, sys.stdout)"
    right = _run
    monkeypatch.setattr(steps, "_run", lambda command, before: right([sys.executable, "-c", said], before))
    found = run_steps([Step("doctor", []), Step("tune", []), Step("search", [])], tmp_path)
    assert [found[verb]["before"] for verb in found] == ["", "doctor", "doctor tune"]


def test_a_step_that_fails_ends_the_run(tmp_path, capfd):
    wanted = [Step("targets", []), Step("predict", ["--target", "no-such-target"]), Step("report", [])]
    with pytest.raises(StepFailed, match="predict ended with 2") as caught:
        run_steps(wanted, tmp_path)
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["targets.json"]
    assert "no subnet is named" in capfd.readouterr().err


def test_a_step_knows_that_it_is_one():
    asked = [sys.executable, "-c", f"import os; print(os.environ['{STEPS_BEFORE}'])"]
    assert _run(asked, ["doctor", "tune"]) == (0, "doctor tune\n")
    assert STEPS_BEFORE not in os.environ


def test_what_doctor_finds_wrong_is_said(tmp_path, capfd):
    with pytest.raises(StepFailed, match="doctor ended with 1"):
        run_steps([Step("doctor", ["--target", "no-such-target"])], tmp_path)
    assert "unknown target 'no-such-target'" in capfd.readouterr().err


@pytest.mark.parametrize("is_told_both", [True, False])
def test_an_interrupted_step_may_save_before_it_ends(tmp_path, is_told_both):
    """Ctrl-C on a terminal tells both processes, a signal from elsewhere only the first."""
    slow = (
        "import signal, sys, time\n"
        "def stop(*_): time.sleep(1); open(sys.argv[1], 'w').write('saved'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, lambda *_: None)\n"
        if is_told_both
        else "import signal, sys, time\n"
        "def stop(*_): time.sleep(1); open(sys.argv[1], 'w').write('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
    )
    slow += "print('begun', file=sys.stderr, flush=True); time.sleep(60)"
    parent = (
        "import sys; from ofa_tvm.support import steps\n"
        "try: steps._run([sys.executable, '-c', sys.argv[1], sys.argv[2]])\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    command = [sys.executable, "-c", parent, slow, str(tmp_path / "file")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "begun\n"
        if is_told_both:
            os.killpg(running.pid, signal.SIGINT)
        else:
            os.kill(running.pid, signal.SIGINT)
        assert running.wait() == 130
    assert (tmp_path / "file").read_text() == "saved"
