"""The ledger of emissions on the page: what making the networks cost, and what running them costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.reporting.parts import Cell, Column, Note, Part, Table, amount_cell
from ofa_tvm.reporting.sci import SciReport, sci_report
from ofa_tvm.support.amounts import merged
from ofa_tvm.support.carbon import WORLD, Assumptions, Footprint, Hardware
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.inference import IMAGES

STANDARD = (
    "Software Carbon Intensity (ISO/IEC 21031:2024, SCI for AI) in CO2 equivalents, each figure with its bounds. "
    "Nothing is offset."
)


def account_of(folders: Sequence[Path], given: Assumptions) -> SciReport | UserError:
    """What work in folders of searches and bundles cost, or why that is not known."""
    try:
        return sci_report(folders, given)
    except UserError as error:
        return error


def sci_parts(account: SciReport | UserError) -> tuple[Part, ...]:
    """Tables of the provider's and the consumer's side; why there are none where the folders do not tell."""
    if isinstance(account, UserError):
        return (Note(f"Emissions are not known: {account.what}", "warn"),)
    parts: list[Part] = [Note(STANDARD)]
    if account.provided:
        parts.append(_provider(account))
    if account.consumed:
        parts.append(_consumer(account))
    return (*parts, Note(_rests_on(account)))


def _provider(report: SciReport) -> Table:
    stages = [one.stage for one in report.provided]
    names = [f"{one.stage}: {one.folder.name}" if stages.count(one.stage) > 1 else one.stage for one in report.provided]
    rows = tuple((Cell(name), *_figures(one.footprint)) for name, one in zip(names, report.provided, strict=True))
    columns = (Column("stage", is_text=True), *_figure_columns())
    return Table("provider", "Making them", columns, rows, (Cell("sum"), *_figures(report.provider)))


def _consumer(report: SciReport) -> Table:
    wheres = [one.network.where for one in report.consumed]
    has_several = len(set(wheres)) > 1
    rows = tuple(
        (Cell(one.network.subnet), *([Cell(where)] * has_several), *_figures(one.footprint))
        for where, one in zip(wheres, report.consumed, strict=True)
    )
    on = [Column("on", is_text=True)] * has_several
    columns = (Column("subnet", is_text=True, is_wide=True), *on, *_figure_columns(f" per {IMAGES} images"))
    return Table("consumer", f"Running them, per {IMAGES:,} images", columns, rows)


def _figure_columns(per: str = "") -> tuple[Column, ...]:
    emissions = ("operational", "embodied", "SCI")
    return (
        Column("energy", file_unit=f"Wh{per}", has_bounds=True),
        *(Column(label, file_unit=f"g CO2e{per}", has_bounds=True) for label in emissions),
        Column("kinds", is_text=True, is_wide=True),
    )


def _figures(one: Footprint) -> tuple[Cell, ...]:
    amounts = (one.energy, one.operational, one.embodied, one.emissions)
    return (*map(amount_cell, amounts), Cell(_kinds(one)))


def _kinds(one: Footprint) -> str:
    return ", ".join(merged(one.energy.kinds, one.operational.kinds, one.embodied.kinds))


def carbon_text(given: Assumptions) -> str:
    """What the figures of single networks rest on, in short."""
    grid = given.grid
    region = f"the {WORLD}" if grid.region == WORLD else grid.region.replace("-", " ").title()
    name = f"{region}'s mean of {grid.year}" if grid.year else grid.region
    return (
        "Energy is estimated from the time of busy cores at 3 to 12 W each. CO2e is of operation "
        f"({grid.g_per_kwh:g} g a kWh, {name}; PUE {given.pue:g}) and of the hardware's manufacture."
    )


def _rests_on(report: SciReport) -> str:
    given = report.assumptions
    left_out = "; ".join(report.left_out)
    return (
        f"Assumed: PUE {given.pue:g} ({given.pue_source}); the grid {given.grid.g_per_kwh:g} g a kWh "
        f"({given.grid.region}, {given.grid.source}); {_hardware(given.server)}"
        f"{f'; {_hardware(given.gpu)}' if report.has_gpu else ''}. Not counted: {left_out}."
    )


def _hardware(one: Hardware) -> str:
    cores = f" and {one.cores} cores" if one.cores > 1 else ""
    return f"{one.name}, {one.kg:g} kg over {one.years:g} years{cores} ({one.source})"
