"""``python -m ofa_tvm.report``: one self-contained HTML page of a search or a bundle."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.support.command import JsonFlag, emit, run_command


def report(
    source: Annotated[
        Path, typer.Option("--from", help="Folder of a search (of one target or several), or of a bundle.")
    ],
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle of a pick, whose size and start are shown; repeat for several.")
    ] = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option(help="File of 'bench --json', or of a bundle's 'run --benchmark --json'; repeat for several."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page (default: report.html in that folder).")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a search or a bundle as one HTML page: picks, front, layers, engines, models, costs and conditions."""
    from ofa_tvm.reporting.page import render
    from ofa_tvm.reporting.source import read_source
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import write_atomic

    read = read_source(source, bundle or (), bench or ())
    path = out or (source / "report.html" if read.searches else source.with_name(f"{source.resolve().name}.html"))
    try:
        write_atomic(path, render(read))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another file with --out") from error
    picks = sum(len(searched.result.picks) for searched in read.searches)
    emit({"report": str(path), "picks": picks}, json, lambda: f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(report, argv)


if __name__ == "__main__":
    sys.exit(main())
