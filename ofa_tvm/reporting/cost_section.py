"""What it cost: time and energy of each phase, and emissions."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.reporting import units
from ofa_tvm.reporting.parts import Cell, Column, Note, Part, Section, Table, amount_cell
from ofa_tvm.support.ledger import Cost, total

COLUMNS = (
    Column("phase", is_text=True, is_wide=True),
    Column("time", file_unit="s"),
    Column("CPU time", file_unit="s"),
    Column("energy", file_unit="Wh", has_bounds=True),
    Column("how the energy was found", is_text=True, is_wide=True),
)


def cost_section(costs: Sequence[tuple[str, Sequence[Cost]]], emissions: Sequence[Part]) -> Section | None:
    """The section; None where no cost is known.

    Args:
        costs: of each target (its label; empty where there is one), phase by phase.
        emissions: what follows the table of phases.
    """
    phases = [(label, cost) for label, some in costs for cost in some]
    if not phases:
        return None
    rows = tuple(_row(f"{label}: {cost.phase}" if label else cost.phase, cost) for label, cost in phases)
    whole = total("all phases", (cost for _, cost in phases))
    note = Note(
        "Times are measured. Energy is metered or estimated, as the last column says. Training of the supernet and "
        "tuning of its kernels, which all its subnets share, are not in it."
    )
    table = Table("cost", "Phase by phase", COLUMNS, rows, _row(whole.phase, whole))
    return Section("cost", "What it cost", "Cost", (note, table, *emissions))


def _row(label: str, cost: Cost) -> tuple[Cell, ...]:
    return (
        Cell(label),
        Cell(units.duration(cost.wall_s), cost.wall_s),
        Cell(units.duration(cost.cpu_s), cost.cpu_s),
        amount_cell(cost.watt_hours),
        Cell(cost.method),
    )
