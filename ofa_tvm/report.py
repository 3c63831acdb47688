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
        Path | None, typer.Option("--from", help="Folder of a search (of one target or several), or of a bundle.")
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle of a pick, whose size and start are shown; repeat for several.")
    ] = None,
    bench: Annotated[
        list[Path] | None,
        typer.Option(help="File of 'bench --json', or of a bundle's 'run --benchmark --json'; repeat for several."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page (default: report.html in that folder).")] = None,
    ledger: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead: energy and CO2e of a search's, training's, log's or bundle's folder; repeat to add."
        ),
    ] = None,
    alone: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of one net trained or tuned alone, or a file of benchmarks/alone.py; repeat."),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Grid of the electricity: a country, such as germany (default: world).")
    ] = None,
    grid: Annotated[float | None, typer.Option(help="Its g CO2e a kWh, instead of --region.")] = None,
    pue: Annotated[float | None, typer.Option(help="Energy of the building over that of its machines.")] = None,
    meter: Annotated[Path | None, typer.Option(help="A power meter's CSV (time, watts) of the work.")] = None,
    watts: Annotated[float | None, typer.Option(help="What the device draws in inference, by a meter.")] = None,
    json: JsonFlag = False,
) -> None:
    """Write a search or a bundle as one HTML page: picks, front, layers, engines, models, costs and conditions.

    With --ledger, print what work cost instead, after Software Carbon Intensity (ISO/IEC 21031:2024).
    """
    from ofa_tvm.support.carbon import assumptions
    from ofa_tvm.support.errors import UserError
    from ofa_tvm.support.files import write_atomic

    if (source is None) == (not ledger):
        raise UserError("report takes --from, or --ledger", "such as --from runs/search")
    of_page = {"--bundle": bundle, "--bench": bench, "--out": out}
    of_ledger = {"--alone": alone, "--meter": meter, "--watts": watts}
    other = "--from" if ledger else "--ledger"
    if unused := [name for name, value in (of_page if ledger else of_ledger).items() if value is not None]:
        raise UserError(f"{unused[0]} goes with {other} only", f"leave it out, or give {other}")
    given = assumptions(pue, region, grid)
    if ledger:
        from ofa_tvm.reporting.sci import sci_report
        from ofa_tvm.reporting.sci_text import sci_text

        account = sci_report(ledger, given, alone or (), meter, watts)
        emit(account.record(), json, lambda: sci_text(account))
        return
    assert source is not None
    from ofa_tvm.reporting.page import render
    from ofa_tvm.reporting.source import read_source

    read = read_source(source, bundle or (), bench or ())
    path = out or (source / "report.html" if read.searches else source.with_name(f"{source.resolve().name}.html"))
    if path.is_file() and b"<!doctype html>" not in path.read_bytes()[:64] and path.stat().st_size:
        raise UserError(f"{path} is no page, and would be lost", "name another file with --out")
    try:
        write_atomic(path, render(read, given))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}", "name another file with --out") from error
    picks = sum(len(searched.result.picks) for searched in read.searches)
    emit({"report": str(path), "picks": picks}, json, lambda: f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(report, argv)


if __name__ == "__main__":
    sys.exit(main())
