"""The ledger of emissions on the page: what making the networks cost, and what running them costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.reporting.parts import Cell, Column, Note, Part, Table
from ofa_tvm.reporting.sci import SciReport, sci_report
from ofa_tvm.support.amounts import merged
from ofa_tvm.support.carbon import Footprint, assumptions
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.inference import IMAGES

FIGURES = (
    Column("energy"),
    Column("operational"),
    Column("embodied"),
    Column("SCI, CO2e"),
    Column("kinds", is_text=True, is_wide=True),
)
STANDARD = "Software Carbon Intensity (ISO/IEC 21031:2024, SCI for AI), each figure with its bounds. Nothing is offset."


def sci_parts(folders: Sequence[Path]) -> tuple[Part, ...]:
    """Tables of the provider's and the consumer's side; why there are none where the folders do not tell.

    Args:
        folders: of searches and bundles.
    """
    try:
        report = sci_report(folders, assumptions())
    except UserError as error:
        return (Note(f"Emissions are not known: {error.what}", "warn"),)
    parts: list[Part] = [Note(STANDARD)]
    if report.provided:
        parts.append(_provider(report))
    if report.consumed:
        parts.append(_consumer(report))
    return (*parts, Note(_rests_on(report)))


def _provider(report: SciReport) -> Table:
    rows = tuple((Cell(one.stage), *_figures(one.footprint)) for one in report.provided)
    columns = (Column("stage", is_text=True), *FIGURES)
    return Table("provider", "Making them", columns, rows, (Cell("sum"), *_figures(report.provider)))


def _consumer(report: SciReport) -> Table:
    rows = tuple((Cell(one.subnet), *_figures(one.footprint)) for one in report.consumed)
    columns = (Column("subnet", is_text=True, is_wide=True), *FIGURES)
    return Table("consumer", f"Running them, per {IMAGES:,} images", columns, rows)


def _figures(one: Footprint) -> tuple[Cell, ...]:
    amounts = (one.energy, one.operational, one.embodied, one.emissions)
    return (*(Cell(amount.text, amount.value) for amount in amounts), Cell(_kinds(one)))


def _kinds(one: Footprint) -> str:
    return ", ".join(merged(one.energy.kinds, one.operational.kinds, one.embodied.kinds))


def _rests_on(report: SciReport) -> str:
    given = report.assumptions
    left_out = "; ".join(report.left_out)
    return (
        f"Assumed: PUE {given.pue:g} ({given.pue_source}); the grid {given.grid.g_per_kwh:g} g a kWh "
        f"({given.grid.region}, {given.grid.source}); {given.server.name}, {given.server.kg:g} kg over "
        f"{given.server.years:g} years and {given.server.cores} cores ({given.server.source}). Not counted: {left_out}."
    )
