"""Commands that run one after the other, each as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.support.command import STEPS_BEFORE
from ofa_tvm.support.console import level_options, log, warn
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record, write_json
from ofa_tvm.support.staging import sweep

SAVING_S = 60
"""Most seconds that an interrupted step takes to save."""
ENDED = 128
"""Exit codes from here on are of steps that a signal ended, which say nothing themselves."""


@dataclass(frozen=True)
class Step:
    """A command of this package with its options."""

    verb: str
    options: Sequence[str]


class StepFailed(OfaTvmError):
    """A step ended with an error that it has already reported; ``exit_code`` is the step's."""

    def __init__(self, step: Step, exit_code: int) -> None:
        mend = "" if exit_code >= ENDED else "mend what it says, then "
        super().__init__(f"{step.verb} ended with {exit_code}", f"{mend}give the same command again")
        self.exit_code = exit_code


def steps_before() -> list[str]:
    """Verbs of the steps that ran before this command; empty where it is no step of another one."""
    return os.environ.get(STEPS_BEFORE, "").split()


def run_steps(steps: Sequence[Step], folder: Path) -> dict[str, Record]:
    """Run steps, keep what each prints as ``<verb>.json`` in a folder, and return it by verb.

    Progress and messages of the steps appear as they come.

    Raises:
        StepFailed: a step failed; those before it are kept.
        KeyboardInterrupt: a step was interrupted.
    """
    sweep(folder)
    results: dict[str, Record] = {}
    for number, step in enumerate(steps, 1):
        log(f"step {number} of {len(steps)}: {step.verb} {' '.join(step.options)}")
        command = [sys.executable, "-m", f"ofa_tvm.{step.verb}", *step.options, *level_options(), "--json"]
        code, printed = _run(command, list(results))
        if code:
            _explain(step, printed)
            raise StepFailed(step, code)
        results[step.verb] = json.loads(printed)
        write_json(folder / f"{step.verb}.json", results[step.verb])
    return results


def _run(command: Sequence[str], before: Sequence[str] = ()) -> tuple[int, str]:
    """Run a command; its exit code, and what it printed. If this process is interrupted, it is too, and may save."""
    environment = {**os.environ, STEPS_BEFORE: " ".join(before)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            printed, _ = running.communicate()
        except BaseException:
            running.terminate()  # after Ctrl-C on a terminal it knows already; a second signal changes nothing
            with suppress(subprocess.TimeoutExpired):
                running.communicate(timeout=SAVING_S)
            running.kill()
            raise
    return running.returncode, printed


def _explain(step: Step, printed: str) -> None:
    """Log what a failed step reports only in its result: the checks that failed."""
    try:
        checks = json.loads(printed).get("checks", [])
    except (json.JSONDecodeError, AttributeError):
        return
    for check in checks:
        if check["status"] == "fail":
            warn(f"{step.verb}: {check['name']}: {check['found']}; {check['fix']}")
