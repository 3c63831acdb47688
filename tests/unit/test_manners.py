"""How much commands say, and how: on a terminal, in a pipe, quiet, verbose, without colours."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import ofa_tvm
from ofa_tvm.support import console
from ofa_tvm.support.command import JsonFlag, emit, run_command
from ofa_tvm.support.errors import UserError

ROOT = Path(ofa_tvm.__file__).parent.parent
COLOUR = re.compile(r"\x1b\[[0-9;]*(3|4|9|10)[0-8](;|m)")


@pytest.fixture(autouse=True)
def usual_afterwards():
    yield
    console.set_level("usual")


def talk(json: JsonFlag = False) -> None:
    """Talk."""
    console.log("usual")
    console.detail("detail")
    console.warn("warning")
    with console.Task("working", 2) as task:
        task.advance()
        task.advance()
    emit({"result": 1}, json, lambda: "result")


def test_quiet_says_results_and_warnings_only(capfd):
    assert run_command(talk, ["--quiet"]) == 0
    assert capfd.readouterr() == ("result\n", "warning\n")


def test_usual(capfd):
    assert run_command(talk, []) == 0
    said = capfd.readouterr()
    assert said.out == "result\n"
    assert said.err.splitlines() == ["usual", "warning", "working: 2/2, 0 s, 0 s left"]


def test_verbose_says_every_step_with_its_time(capfd):
    assert run_command(talk, ["--verbose"]) == 0
    said = capfd.readouterr()
    assert said.out == "result\n"
    lines = said.err.splitlines()
    assert all(re.match(r"\[ *\d+\.\d s\] ", line) for line in lines)
    first, *rest = [line.split("] ", 1)[1] for line in lines]
    assert first == "python -m ofa_tvm.talk --verbose"
    assert [line.partition(",")[0] for line in rest] == ["usual", "detail", "warning", "working: 1/2", "working: 2/2"]


def test_quiet_and_verbose_are_opposites(capfd):
    assert run_command(talk, ["-q", "-v"]) == 2
    assert "opposites" in capfd.readouterr().err


@pytest.mark.parametrize(("flag", "is_told"), [("--verbose", True), ("--quiet", False)])
def test_only_verbose_says_where_an_error_was_raised(capfd, flag, is_told):
    def fail() -> None:
        raise UserError("what", "hint")

    assert run_command(fail, [flag]) == 2
    said = capfd.readouterr().err
    assert ("test_manners.py" in said) == is_told
    assert "error: what\n  hint\n" in said


@pytest.mark.parametrize(("level", "options"), [("quiet", ["--quiet"]), ("usual", []), ("verbose", ["--verbose"])])
def test_steps_of_a_command_say_as_much_as_it(level, options):
    console.set_level(level)
    assert console.level_options() == options


def terminal(monkeypatch, width=80, **options):
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, highlight=False, **options)
    monkeypatch.setattr(console, "stderr", screen)
    return screen.file


def test_a_terminal_has_one_live_line_however_long_the_note(monkeypatch):
    shown = terminal(monkeypatch)
    with console.Task("tuning", 3) as task:
        for number in range(3):
            task.advance(note=f"[brackets] {number} failed " + "x" * 200)
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", shown.getvalue())]
    assert any("tuning" in line and "3/3" in line and "left" in line and "[brackets]" in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert not any(line and set(line) == {"x"} for line in lines)


def test_a_terminal_that_cannot_move_its_cursor_has_plain_lines(monkeypatch, capfd):
    monkeypatch.setenv("TERM", "dumb")
    shown = terminal(monkeypatch)
    with console.Task("tuning", 1) as task:
        task.advance()
    assert shown.getvalue() == "tuning: 1/1, 0 s, 0 s left\n"


@pytest.mark.parametrize("no_colour", [True, False])
def test_no_color_is_heeded(no_colour):
    code = "from ofa_tvm.support.console import Task\nwith Task('tuning', 1) as task: task.advance()"
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    env |= {"TERM": "xterm-256color", "COLUMNS": "100", **({"NO_COLOR": "1"} if no_colour else {})}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=env, cwd=ROOT, check=True)
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "1/1" in said
    assert bool(COLOUR.search(said)) != no_colour
