"""Set up a virtual environment: ``python3 tools/set_up.py FOLDER``, as ``make`` does. Needs Python 3.11 alone.

torch comes first, so that nothing below pulls another build of it, and xgboost-cpu in place of xgboost, which would
bring 690 MB for GPUs. What the tools say goes to FOLDER/set_up.log; the terminal shows what is going on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
LINE_EVERY_S = 15.0
LAST_LINES = 12
EXTRAS = ("bench", "dev")
HEADER = "from ofa_tvm.compiler.runner_headers import install_header; install_header()"


def main() -> int:
    """Run all steps; 1 where one fails."""
    if sys.version_info[:2] < OLDEST:
        print(f"Python {'.'.join(map(str, OLDEST))} or newer is needed: make PYTHON=python3.12 ...", file=sys.stderr)
        return 1
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".venv").resolve()
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = [*pip, "--constraint", str(ROOT / "constraints.txt")]
    editable = [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    steps = [
        ("a virtual environment", [sys.executable, "-m", "venv", str(folder)]),
        ("pip", [*pip, "--upgrade", "pip"]),
        ("torch (the largest part)", [*pip, _torch()]),
        ("TVM, engines to compare with, and tools", [*pinned, "xgboost-cpu", *_requirements()]),
        ("what builds this package", [*pinned, "hatchling", "editables"]),
        ("this package", editable),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"{folder} cannot be made: {error.strerror}", file=sys.stderr)
        return 1
    with (folder / "set_up.log").open("w") as log:
        for number, (title, command) in enumerate(steps, 1):
            if _run(f"set-up {number}/{len(steps) + 1}: {title}", command, log):
                _complain(Path(log.name), title)
                return 1
        title = f"set-up {len(steps) + 1}/{len(steps) + 1}: stb_image.h, for bundles that read PNG and JPEG"
        if _run(title, [python, "-c", HEADER], log):
            _complain(Path(log.name), "the header; bundles read .ppm, .npy and .raw without it")
    print(f"ready: source {os.path.relpath(folder)}/bin/activate", file=sys.stderr)
    return 0


def _torch() -> str:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def _requirements() -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = [*project["dependencies"], *(name for extra in EXTRAS for name in project["optional-dependencies"][extra])]
    return [name for name in every if not name.startswith(("torch", "xgboost"))]


def _run(title: str, command: list[str], log: TextIO) -> int:
    """Run a command and show that it lives; its exit code."""
    is_terminal, start = sys.stderr.isatty(), time.monotonic()
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    _say(title, is_terminal)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT) as process:
        while True:
            try:
                code = process.wait(timeout=1 if is_terminal else LINE_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                _say(f"{title}  {time.monotonic() - start:.0f} s", is_terminal)
    if is_terminal:
        print(file=sys.stderr)
    return code


def _say(text: str, is_terminal: bool) -> None:
    print(f"\r{text}" if is_terminal else text, end="" if is_terminal else "\n", file=sys.stderr, flush=True)


def _complain(log: Path, title: str) -> None:
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    print(
        "\n".join([f"could not set up {title}:", *(f"  {line}" for line in lines), f"all of it: {log}"]),
        file=sys.stderr,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts the set-up again", file=sys.stderr)
        sys.exit(130)
