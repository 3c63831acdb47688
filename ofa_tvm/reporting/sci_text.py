"""The ledger in words: a table for the provider, one for the consumer, and what they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from ofa_tvm.reporting import units
from ofa_tvm.reporting.break_even import BreakEven
from ofa_tvm.reporting.sci import PARAMETERS, SciReport
from ofa_tvm.support.amounts import digits, merged
from ofa_tvm.support.carbon import Assumptions, Footprint, Hardware
from ofa_tvm.support.command import table
from ofa_tvm.support.ledger import Cost, total
from ofa_tvm.timing.inference import IMAGES

HEADERS = ("energy", "kind", "operational", "embodied", "SCI (CO2e)")


def sci_text(report: SciReport) -> str:
    """The whole report."""
    return "\n".join(
        [
            "Software Carbon Intensity (ISO/IEC 21031:2024, SCI for AI): operational and embodied emissions together",
            "",
            *_provider(report),
            "",
            *_consumer(report),
            "",
            *_break_even(report),
            "",
            *_assumptions(report.assumptions, report.has_gpu),
            *(f"not counted: {one}" for one in report.left_out),
            "nothing is offset",
        ]
    )


def _times(cost: Cost) -> list[str]:
    return [units.duration(cost.wall_s), units.duration(cost.cpu_s)]


def _cells(one: Footprint) -> list[str]:
    return [one.energy.text, one.energy.kind, one.operational.text, one.embodied.text, one.emissions.text]


def _kinds(footprints: Iterable[Footprint]) -> str:
    parts = list(footprints)
    operational, embodied = (
        merged(*(one.operational.kinds for one in parts)),
        merged(*(one.embodied.kinds for one in parts)),
    )
    return f"CO2e: operational {', '.join(operational)}; embodied {', '.join(embodied)}"


def _provider(report: SciReport) -> Iterator[str]:
    rows = [[one.stage, str(one.folder), *_times(one.cost), *_cells(one.footprint)] for one in report.provided]
    rows.append(["sum", "", *_times(total("sum", (one.cost for one in report.provided))), *_cells(report.provider)])
    yield "provider"
    yield table(["stage", "folder", "time", "CPU time", *HEADERS], rows)
    yield _kinds(one.footprint for one in report.provided)
    yield from dict.fromkeys(f"{one.stage}: energy {one.cost.method}" for one in report.provided)
    if report.marginal is not None:
        of = "" if report.targets == 1 else f" (mean of {report.targets}, between the least and the most)"
        energy, emissions = report.marginal.energy, report.marginal.emissions
        yield f"one more target{of}: {energy.text} ({energy.kind}), {emissions.text} CO2e ({emissions.kind})"
    for one in report.scores:
        yield (
            f"{one.network.subnet} ({one.network.where}): {one.emissions.text} CO2e per {PARAMETERS:,} parameters, "
            f"of which it has {one.network.parameters:,} ({one.emissions.kind})"
        )


def _consumer(report: SciReport) -> Iterator[str]:
    yield f"consumer, per {IMAGES:,} images"
    if not report.consumed:
        yield "no network with a latency is in these folders"
        return
    rows = [
        [one.network.subnet, one.network.where, f"{one.milliseconds:.3f}", *_cells(one.footprint)]
        for one in report.consumed
    ]
    yield table(["subnet", "on", "ms a call", *HEADERS], rows)
    yield _kinds(one.footprint for one in report.consumed)
    yield from dict.fromkeys(f"energy {one.cost.method}" for one in report.consumed)


def _break_even(report: SciReport) -> Iterator[str]:
    yield "break-even"
    for one in report.break_even:
        yield from _compared(one)
    if not report.break_even:
        yield "no costs of nets trained or tuned alone: give them with --alone"
    yield f"as published: {report.published_source}"
    rows = [
        [one.method, one.against, _from(one.at), f"{digits(one.ratio)}x at {one.targets} targets", "published"]
        for one in report.published
    ]
    yield table(["method", "against", "cheaper from so many targets on", "costs less by", "kind"], rows)


def _compared(one: BreakEven) -> Iterator[str]:
    low, high = map(_number, one.at[1:])
    from_there = f"for no number of {one.per}"
    if math.isfinite(one.at[0]):
        from_there = "from the first on" if one.at[0] <= 1 else f"from {_number(one.at[0])} {one.per} on"
    yield f"against {one.against}: we cost less {from_there} ({low} to {high}; {one.kind})"
    yield (
        f"  ours: {one.once.text} once ({one.once.kind}), {one.each.text} for each ({one.each.kind}); "
        f"alone: {one.other.text} for each ({one.other.kind})"
    )
    ratios = (
        f"{digits(value)}x at {number} ({digits(low)}-{digits(high)})"
        for number, (value, low, high) in one.ratios.items()
    )
    yield f"  the other way costs {', '.join(ratios)}"
    yield from (f"  {text}" for text in one.assumed)


def _from(number: float) -> str:
    return "1: the first already pays" if number <= 1 else _number(number)


def _number(number: float) -> str:
    return digits(number) if math.isfinite(number) else "never"


def _assumptions(given: Assumptions, has_gpu: bool) -> Sequence[str]:
    grid = given.grid
    year = "" if grid.year is None else f", {grid.year}"
    return [
        f"grid: {grid.g_per_kwh:g} g CO2e/kWh ({grid.region}{year}; {grid.source})",
        f"PUE: {given.pue:g} ({given.pue_source})",
        *(_hardware(one) for one in ((given.server, given.gpu) if has_gpu else (given.server,))),
    ]


def _hardware(one: Hardware) -> str:
    cores = f" and {one.cores} cores" if one.cores > 1 else ""
    return (
        f"embodied: {one.name}, {one.kg:g} kg CO2e ({one.kg_low:g}-{one.kg_high:g}) over {one.years:g} years{cores} "
        f"({one.source})"
    )
