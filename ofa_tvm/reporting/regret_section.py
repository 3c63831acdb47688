"""What is lost by shipping one target's picks on another: a matrix."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.nas.regret import Regret
from ofa_tvm.reporting import units
from ofa_tvm.reporting.parts import Cell, Column, Fold, Matrix, MatrixCell, Note, Section, Table

COLUMNS = (
    Column("picks of", is_text=True),
    Column("on", is_text=True),
    Column("points of top-1 lost"),
    Column("slower than need be"),
    Column("over their budget"),
    Column("unsure", note="other work disturbed the machine too much to say whether the budget is held"),
    Column("picks"),
    Column("latencies", is_text=True, note="how they were obtained there"),
)


def regret_section(entries: Sequence[Regret]) -> Section | None:
    """The section; None where there is one target."""
    if not entries:
        return None
    targets = list(dict.fromkeys(entry.shipped for entry in entries))
    by_pair = {(entry.shipped, entry.on): entry for entry in entries}
    worst = max(entry.slower for entry in entries) or 1.0
    rows = tuple((shipped, tuple(_cell(by_pair.get((shipped, on)), worst) for on in targets)) for shipped in targets)
    matrix = Matrix("Picks of the row's target on the column's", "picks of", tuple(targets), rows)
    note = Note(
        "How much slower than need be: against the fastest subnet there that is as accurate. Points lost: against the "
        "most accurate one there that is as fast. A small number means that one target's picks will do on the other."
    )
    parts = (note, matrix, Fold("As a table", (_table(entries),)))
    return Section("regret", "One target's picks on another", "Across targets", parts)


def _cell(entry: Regret | None, worst: float) -> MatrixCell:
    if entry is None:
        return MatrixCell(units.UNKNOWN, (), 0.0)
    notes = [f"{100 * entry.top1_lost:.2f} points lost"]
    if entry.broken_budgets:
        unless = " or unsure" if entry.unsure_budgets is None else ""
        notes.append(f"{entry.broken_budgets} of {entry.picks} over budget{unless}")
    if entry.unsure_budgets:
        notes.append(f"{entry.unsure_budgets} of {entry.picks} unsure: too much other work")
    if entry.how != "measured":
        notes.append(entry.how)
    return MatrixCell(units.signed_percent(entry.slower), tuple(notes), max(0.0, entry.slower / worst))


def _table(entries: Sequence[Regret]) -> Table:
    rows = tuple(
        (
            Cell(entry.shipped),
            Cell(entry.on),
            Cell(f"{100 * entry.top1_lost:.2f}", 100 * entry.top1_lost),
            Cell(units.signed_percent(entry.slower), entry.slower),
            Cell(str(entry.broken_budgets), entry.broken_budgets),
            Cell(units.UNKNOWN if entry.unsure_budgets is None else str(entry.unsure_budgets), entry.unsure_budgets),
            Cell(str(entry.picks), entry.picks),
            Cell(entry.how),
        )
        for entry in entries
    )
    return Table("regret", "Means over the picks", COLUMNS, rows)
