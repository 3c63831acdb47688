"""Write docs/cli.md, the reference of all commands, from their ``--help``: ``make docs``."""

from __future__ import annotations

import contextlib
import io
import os
from importlib import import_module
from pathlib import Path

from ofa_tvm.__main__ import VERBS, module_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
COLUMNS = "100"
INTRODUCTION = """# Commands

Every command as its `--help` has it; this page is written by `make docs`. `ofa-tvm VERB` is the same as
`python -m ofa_tvm.VERB`. With `--json` a command prints one JSON object on stdout; progress goes to stderr.

Exit codes: 0 done, 1 failed, 2 bad input, 3 partial, 4 nothing meets the constraint, 5 device unreachable, 129, 130 or
143 interrupted with state saved.
"""


def page() -> str:
    """The text of the page."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        sections = [f"## {verb}\n\n```text\n{_help(verb)}\n```\n" for verb in VERBS]
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join([INTRODUCTION, *sections])


def _help(verb: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        import_module(f"ofa_tvm.{module_of(verb)}").main(["--help"])
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
