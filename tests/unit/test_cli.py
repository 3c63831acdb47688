"""Commands: help is light, results are one JSON object, and what goes wrong has its exit code."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import pytest
import typer

import ofa_tvm
from ofa_tvm import __main__ as entry
from ofa_tvm import targets
from ofa_tvm.support import console
from ofa_tvm.support.command import GOES_ON, STARTS_AGAIN, STEPS_BEFORE, JsonFlag, emit, run_command, table
from ofa_tvm.support.errors import DeviceUnreachable, Infeasible, OfaTvmError, PartialResult, UserError
from ofa_tvm.support.files import write_json
from ofa_tvm.support.shipped import shipped_folder

ROOT = Path(ofa_tvm.__file__).parent.parent
MODULES = {verb: f"ofa_tvm.{entry.module_of(verb)}" for verb in entry.VERBS}
PRESENT = [verb for verb, module in MODULES.items() if find_spec(module)]
HELP = """
import sys
from ofa_tvm.__main__ import main
sys.argv = ["ofa-tvm", sys.argv[1], "--help"]
code = main()
print("LOADED", *sorted({"torch", "tvm", "tvm_ffi", "xgboost", "onnx"} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.mark.parametrize("verb", PRESENT)
def test_help_is_light(verb):
    done = subprocess.run([sys.executable, "-c", HELP, verb], capture_output=True, text=True, check=True, cwd=ROOT)
    text, _, loaded = done.stdout.rpartition("LOADED")
    assert "Usage:" in text
    assert "--json" in text
    assert not loaded.split()


@pytest.mark.parametrize("flag", ["--help", "-h", None])
def test_usage_lists_every_verb(monkeypatch, capsys, flag):
    monkeypatch.setattr(sys, "argv", ["ofa-tvm", *([flag] if flag else [])])
    assert entry.main() == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in entry.VERBS)


@pytest.mark.parametrize("words", [["ofa_tvm"], ["ofa_tvm", "tune"], ["ofa_tvm.deploy"]])
def test_version_of_every_command_is_that_of_the_whole_stack(words):
    command = [sys.executable, "-m", *words, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert found["ofa_tvm"] == ofa_tvm.__version__
    assert found["Python"] == platform.python_version()
    assert all(found[name] == version(name) for name in ("apache-tvm", "torch", "numpy"))
    assert int(found["LLVM"]) > 10
    assert platform.system() in found["system"]


def test_the_runtime_is_of_the_same_version():
    header = (shipped_folder("runtime") / "include" / "ofa_tvm.h").read_text()
    assert f'#define OFA_TVM_VERSION "{ofa_tvm.__version__}"\n' in header


def test_unknown_verb(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ofa-tvm", "sing"])
    assert entry.main() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "unknown verb 'sing'" in captured.err
    assert "search" in captured.err


def test_entry_point_runs_a_verb_with_its_arguments(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["ofa-tvm", "targets", "--json", "--logs", str(tmp_path)])
    assert entry.main() == 0
    assert json.loads(capsys.readouterr().out)["targets"]


class Command:
    """A command that does what its test wants."""

    def __init__(self, action):
        def sing(count: Annotated[int, typer.Option(min=1)] = 1, json: JsonFlag = False) -> None:
            """Sing."""
            action()
            emit({"count": count}, json, lambda: f"la {count}")

        self.run = lambda *argv: run_command(sing, argv)


def nothing():
    pass


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OfaTvmError("what", "try this"), 1),
        (UserError("what", "try this"), 2),
        (PartialResult("what", "try this"), 3),
        (Infeasible("what", "try this"), 4),
        (DeviceUnreachable("what", "try this"), 5),
    ],
)
def test_errors_have_their_exit_code_and_no_traceback(capfd, error, code):
    assert Command(raising(error)).run() == code
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "error: what\n  try this\n"


@pytest.mark.parametrize(
    ("error", "record"),
    [
        (UserError("what", "try this"), {"code": 2, "reason": "what", "hint": "try this"}),
        (
            Infeasible("what", "", {"limit": "latency_ms", "value": 2.5, "subnet": "r32.3x2"}),
            {
                "code": 4,
                "reason": "what",
                "hint": "",
                "nearest": {"limit": "latency_ms", "value": 2.5, "subnet": "r32.3x2"},
            },
        ),
        (PermissionError(13, "Permission denied"), {"code": 2, "reason": "Permission denied", "hint": ""}),
    ],
)
def test_errors_are_json_where_results_are(capfd, error, record):
    assert Command(raising(error)).run("--json") == record["code"]
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {"schema_version": 1, "error": record}
    assert captured.err.startswith(f"error: {record['reason']}\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(13, "Permission denied", "/o t"),
            "/o t: Permission denied\n  see who may use it: ls -ld '/o t'",
        ),
        (OSError("no number,\nand two lines"), "no number, and two lines"),
    ],
)
def test_what_the_system_refuses_is_told_in_one_line_and_ends_with_2(capfd, error, said):
    assert Command(raising(error)).run() == 2
    assert capfd.readouterr() == ("", f"error: {said}\n")


def test_a_full_disk_is_the_machines_fault(capfd):
    assert Command(raising(OSError(28, "No space left on device", "/out"))).run() == 1
    said = capfd.readouterr().err
    assert said.startswith("error: /out: No space left on device\n  make room there")


def test_a_closed_pipe_is_no_error(capfd):
    assert Command(raising(BrokenPipeError(32, "Broken pipe"))).run() == 1
    assert "error" not in capfd.readouterr().err


def test_success_is_0_and_text_goes_to_stdout(capfd):
    assert Command(nothing).run("--count", "3") == 0
    assert capfd.readouterr() == ("la 3\n", "")


@pytest.mark.parametrize("argv", [["--count", "0"], ["--count", "many"], ["--unknown"], ["argument"]])
def test_arguments_that_do_not_parse_end_with_2(capfd, argv):
    assert Command(nothing).run(*argv) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Usage: python -m ofa_tvm.sing" in captured.err
    assert Command(nothing).run(*argv, "--json") == 2
    assert json.loads(capfd.readouterr().out)["error"]["code"] == 2


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--json", "--out", ""]])
def test_an_empty_out_is_refused(capfd, words):
    def verb(out: Path = Path(), json: JsonFlag = False) -> None:
        raise AssertionError("it ran")

    assert run_command(verb, words) == 2
    said = capfd.readouterr()
    assert "--out is empty" in said.err
    assert ('"reason": "--out is empty"' in said.out) is ("--json" in words)


def test_terminals_do_not_obey_names(capfd):
    def sing(json: JsonFlag = False) -> None:
        raise UserError("no \x1b[31mfile\nsecond line", "try\x07 another")

    assert run_command(sing, ["--json"]) == 2
    printed, said = capfd.readouterr()
    assert said == "error: no ?[31mfile\nsecond line\n  try? another\n"
    assert json.loads(printed)["error"]["reason"] == "no \x1b[31mfile\nsecond line"


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        Command(raising(ZeroDivisionError())).run()


@pytest.mark.parametrize("saved", [GOES_ON, STARTS_AGAIN])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(capfd, tmp_path, saved):
    def sing(name: Annotated[str, typer.Option()] = "") -> None:
        write_json(tmp_path / "song.json", name)
        raise KeyboardInterrupt

    assert run_command(sing, ["--name", "two words"], saved=saved) == 130
    assert capfd.readouterr().err == f"interrupted; {saved}\n  python -m ofa_tvm.sing --name 'two words'\n"


def test_an_interrupted_step_leaves_it_to_its_command_to_say_how_to_go_on(capfd, monkeypatch):
    def sing(json: Annotated[bool, typer.Option("--json")] = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv(STEPS_BEFORE, "1")
    assert run_command(sing, ["--json"], saved=GOES_ON) == 130
    assert capfd.readouterr() == ("", "")


def test_an_interrupted_run_that_wrote_nothing_saved_nothing(capfd, tmp_path):
    write_json(tmp_path / "earlier.json", 1)
    assert run_command(lambda: signal.raise_signal(signal.SIGINT), [], "sing", saved=GOES_ON) == 130
    assert capfd.readouterr().err.startswith(f"interrupted; {STARTS_AGAIN}\n")


INTERRUPTED_IN_A_TEXT = """
import sys
from ofa_tvm.support.command import run_command
sys.exit(run_command(lambda: exec("import signal; signal.raise_signal(signal.SIGINT)"), [], "sing"))
"""


def test_an_interrupt_within_exec_ends_with_130_too(tmp_path):
    """Python ends a module's run by the signal where a plain KeyboardInterrupt passed through ``exec`` of a text."""
    (tmp_path / "sing.py").write_text(INTERRUPTED_IN_A_TEXT)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-m", "sing"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted; ")


def test_an_interrupted_dry_run_changed_nothing(capfd):
    def sing(dry_run: Annotated[bool, typer.Option("--dry-run")] = False) -> None:
        raise KeyboardInterrupt

    assert run_command(sing, ["--dry-run"], saved=GOES_ON) == 130
    assert capfd.readouterr().err.startswith(f"interrupted; {STARTS_AGAIN}\n")


SAVES = {"tune", "train", "search", "onboard", "compile"}


@pytest.mark.parametrize("verb", PRESENT)
def test_every_command_knows_what_an_interrupt_leaves(monkeypatch, verb):
    given = {}
    module = import_module(MODULES[verb])
    monkeypatch.setattr(module, "run_command", lambda function, *rest, **options: given.update(options))
    module.main([])
    assert given.get("saved", STARTS_AGAIN) == (GOES_ON if verb in SAVES else STARTS_AGAIN)


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 143, "terminated; "), (signal.SIGHUP, 129, "the terminal is gone; ")]
)
def test_what_ends_a_command_has_its_code_and_the_handler_is_put_back(capfd, number, code, said):
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may ignore the end of a terminal
    try:
        assert Command(lambda: os.kill(os.getpid(), number)).run() == code
        assert capfd.readouterr().err.startswith(said)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_nohup_is_heeded(capfd):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert Command(lambda: os.kill(os.getpid(), signal.SIGHUP)).run() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_json_is_one_object_with_its_schema_version(capfd):
    assert Command(nothing).run("--json", "--count", "2") == 0
    captured = capfd.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {"schema_version": 1, "count": 2}


def test_table_aligns_numbers_to_the_right():
    assert table(["name", "ms"], [["a", "10"], ["long name", "3"]]).splitlines() == [
        "name       ms",
        "---------  --",
        "a          10",
        "long name   3",
    ]


def test_targets_command(capsys, tmp_path):
    assert targets.main(["--json", "--logs", str(tmp_path)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["targets"]}
    assert rows["x86"]["mcpu"] != "native"
    assert (rows["x86"]["tuned_kernels"], rows["x86"]["log"]) == (0, None)
    assert targets.main(["--logs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in rows)
    assert rows["x86"]["fingerprint"] in text


def test_targets_command_goes_on_past_a_target_that_cannot_be_used(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ofa_tvm.hardware.target_files.target_names", lambda: ["x86", "no-such-target"])
    assert targets.main(["--json", "--logs", str(tmp_path)]) == 0
    first, second = json.loads(capsys.readouterr().out)["targets"]
    assert first["fingerprint"]
    assert "unknown target" in second["error"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (200, "3:20"), (3900, "1:05:00")]
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when told to."""
    now = {"s": 100.0}
    monkeypatch.setattr(time, "monotonic", lambda: now["s"])
    return now


def test_progress_in_a_pipe_is_a_plain_line_now_and_then(capsys, clock):
    assert not console.stderr.is_terminal
    with console.Task("tuning", 10) as task:
        for _ in range(10):
            clock["s"] += 10
            task.advance(note="a note")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "tuning: 2/10, 20 s, 1:20 left  a note",
        "tuning: 4/10, 40 s, 1:00 left  a note",
        "tuning: 6/10, 1:00, 40 s left  a note",
        "tuning: 8/10, 1:20, 20 s left  a note",
        "tuning: 10/10, 1:40, 0 s left  a note",
    ]


def test_progress_that_resumes_reckons_with_its_own_work_only(capsys, clock):
    with console.Task("tuning", 10, done=8) as task:
        clock["s"] += 20
        task.advance()
    assert capsys.readouterr().err == "tuning: 9/10, 20 s, 20 s left\n"


def test_progress_knows_when_it_ends_anyway(capsys, clock):
    with console.Task("tuning", 10, seconds=60) as task:
        for _ in range(2):
            clock["s"] += 20
            task.advance()
    assert [line.split(", ")[-1] for line in capsys.readouterr().err.splitlines()] == ["40 s left", "20 s left"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "make room in .* \\(or set TMPDIR\\)"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/file"), 1, "/a/file: No space .*\n  make room there"),
        (
            OSError(errno.EACCES, "Permission denied", "HOME/.cache"),
            2,
            "Permission .*\n  set OFA_TVM_CACHE to a folder",
        ),
        (OSError(errno.EACCES, "Permission denied", "HOME/.local/share"), 2, "denied\n  set OFA_TVM_LOGS to a folder"),
        (
            OSError(errno.EACCES, "Permission denied", "/elsewhere"),
            2,
            "denied\n  see who may use it: ls -ld /elsewhere\n$",
        ),
        (MemoryError("Unable to allocate 168 MiB"), 1, "out of memory: Unable .*\n  end other .*, or raise the limit"),
        (MemoryError(), 1, "error: out of memory: "),
        (ImportError("libtvm.so: undefined symbol"), 2, "undefined symbol\n  see what .*ofa_tvm.doctor"),
        (UserError("caf\udce9.png is damaged"), 2, r"caf\\udce9.png is damaged"),
    ],
)
def test_what_the_system_refuses_is_told_with_a_remedy(tmp_path, monkeypatch, capfd, error, code, said):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("OFA_TVM_CACHE", "OFA_TVM_LOGS"):
        monkeypatch.delenv(variable, raising=False)
    if isinstance(error, OSError) and error.filename:
        error.filename = error.filename.replace("HOME", str(tmp_path))

    def command() -> None:
        raise error

    assert run_command(command, []) == code
    assert re.search(said, capfd.readouterr().err)


def test_a_cache_of_ones_own_that_cannot_be_written_is_told_with_its_variable(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))

    def command() -> None:
        raise OSError(errno.EACCES, "Permission denied", str(tmp_path / "compiled"))

    assert run_command(command, []) == 2
    assert capfd.readouterr().err.endswith("Permission denied\n  set OFA_TVM_CACHE to a folder that you may write\n")
