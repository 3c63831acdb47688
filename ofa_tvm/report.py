"""``python -m ofa_tvm.report``: one self-contained HTML page of a search."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import JsonFlag, emit, run_command


def report(
    source: Annotated[Path, typer.Option("--from", help="Folder of a search (holds result.json).")],
    out: Annotated[Path | None, typer.Option(help="The page (default: report.html in that folder).")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a search as one HTML page: picks, front, predicted and measured values, costs and conditions."""
    from ofa_tvm.nas.result import load_search_result
    from ofa_tvm.reporting.page import render
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import write_atomic

    run = load_search_result(source)
    path = out or source / "report.html"
    try:
        write_atomic(path, render(run))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another file with --out") from error
    emit({"report": str(path), "picks": len(run.picks)}, json, lambda: f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(report, argv)


if __name__ == "__main__":
    sys.exit(main())
