"""A command of the package on the tiny space and a device that answers by formula, killed at a step if asked.

``python killed_command.py VERB OPTION ...`` with ``KILL_UNDER`` (folder whose changes count), ``KILL_AT`` (step, 0 for
none), ``KILL_TORN`` and, where the number of steps is wanted, ``KILL_STEPS`` (file to write it to).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import tiny
from formula_device import FormulaDevice
from killing import Killer

from ofa_tvm import data
from ofa_tvm.devices.local import device as local
from ofa_tvm.devices.replay import made_up_result
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.spaces import SPACES
from ofa_tvm.support import steps
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.trial import TrialResult


class MadeUpDevice(FormulaDevice):
    """Also answers trials of kernels."""

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Results that follow from the candidates."""
        return (made_up_result(spec, candidate) for candidate in candidates)


def prepare() -> None:
    """Make the tiny space, its images and the device known."""
    space, dataset = tiny.space(), tiny.dataset()
    SPACES[space.name] = space
    data.SOURCES[dataset.name] = lambda path, progress: dataset
    local.LocalDevice = lambda target: MadeUpDevice()  # type: ignore[misc, assignment, return-value]

    class Step(subprocess.Popen[str]):
        """A step of onboard, as this program."""

        def __init__(self, command: list[str], **options: Any) -> None:
            verb = command[2].removeprefix("ofa_tvm.")
            own = {**options, "env": {**os.environ, "KILL_AT": "0"}}
            super().__init__([sys.executable, __file__, verb, *command[3:]], **own)

    names = {"Popen": Step, "PIPE": subprocess.PIPE, "TimeoutExpired": subprocess.TimeoutExpired}
    steps.subprocess = type("Steps", (), names)  # type: ignore[assignment, attr-defined]


def main() -> int:
    """Run the command."""
    prepare()
    verb, options = sys.argv[1], sys.argv[2:]
    if verb == "doctor":  # takes long, and writes nothing
        print('{"failed": 0, "checks": []}')
        return 0
    killer = Killer(Path(os.environ["KILL_UNDER"]), int(os.environ.get("KILL_AT", "0")), "KILL_TORN" in os.environ)
    code: int = import_module(f"ofa_tvm.{verb}").main(options)
    killer.stop()
    if "KILL_STEPS" in os.environ and "KILL_AT" in os.environ:
        Path(os.environ["KILL_STEPS"]).write_text(str(killer.steps))
    return code


if __name__ == "__main__":
    sys.exit(main())
