"""The same subnets in other engines: how many times ours they take, with the spread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.bench_file import OURS, Bench, BenchedSubnet, EngineTime
from ofa_tvm.reporting.offers import Offer
from ofa_tvm.reporting.parts import Cell, Column, Commands, Fold, Note, Part, Range, Ranges, Section, Table, Tone

NAMES = {
    "ort": "ONNX Runtime",
    "ort-int8": "ONNX Runtime, int8",
    "ort-int8-qoperator": "ONNX Runtime, int8 (QOperator)",
    "openvino": "OpenVINO",
    "openvino-as-installed": "OpenVINO, as installed",
    "openvino-int8": "OpenVINO, int8",
    "litert": "LiteRT with XNNPACK",
    "litert-int8": "LiteRT with XNNPACK, int8",
    "torch": "PyTorch",
    "float32": "ofa_tvm, float32",
    "bfloat16": "ofa_tvm, bfloat16",
    "float16": "ofa_tvm, float16",
    "int8": "ofa_tvm, int8",
    "default": "ofa_tvm, before any tuning",
    "loops": "TVM, unscheduled loops",
}
COLUMNS = (
    Column("engine", is_text=True),
    Column("protocol", is_text=True),
    Column("median", "ms"),
    Column("fastest window", "ms"),
    Column("slowest window", "ms"),
    Column("p90", "ms"),
    Column("takes times ours"),
    Column("subnet", is_text=True),
)

START_COLUMNS = (
    Column("engine", is_text=True),
    Column("load", "ms", note="with the engine's own import"),
    Column("first inference", "ms"),
    Column("peak memory", "MB"),
    Column("file", "MB"),
)


def engine_section(benches: Sequence[Bench], offers: Sequence[Offer], space: str) -> Section:
    """The section; where nothing was compared, the commands that do."""
    parts: list[Part | Fold] = []
    if not benches:
        parts.append(Note("Not measured: no comparison with other engines was given to this report.", "warn"))
        subnets = " ".join(f"--subnet {offer.subnet}" for offer in list({o.subnet: o for o in offers}.values())[:3])
        parts.append(
            Commands(
                (
                    ("Compare", f"python -m ofa_tvm.bench --space {space} {subnets}{_on(offers)} --json > bench.json"),
                    ("Then add to the report command", "--bench bench.json"),
                )
            )
        )
    for bench in benches:
        parts += _compared(bench)
    return Section("engines", "Against other engines", "Engines", tuple(parts))


def _on(offers: Sequence[Offer]) -> str:
    """Options for the target of the offers."""
    if not offers:
        return ""
    first = offers[0]
    dtype = "" if first.series.dtype in (None, "float32") else f" --dtype {first.series.dtype}"
    return f" --target {first.series.target} --threads {first.threads}{dtype}"


def _compared(bench: Bench) -> Iterator[Part | Fold]:
    threads = units.plural(bench.threads, "thread")
    yield Note(f"{bench.machine}, {threads}, batch 1, random weights, outputs compared first. Above 1, ours is faster.")
    if (found := bench.stability) is not None:
        apart = f"windows are {units.percent(found.apart, 1)} apart in the median, "
        apart += f"{units.percent(found.most_apart, 1)} at most"
        remedies = "".join(f"; {remedy}" for remedy in found.remedies)
        yield Note(f"{found.verdict.capitalize()}: {apart}{remedies}.", "warn" if bench.is_unstable else "plain")
    for protocol in bench.subnets[0].protocols if bench.subnets else ():
        how = bench.protocols.get(protocol, protocol)
        yield _ranges(bench, protocol, f"{protocol.capitalize()}: {how}")
    for subnet in bench.subnets:
        if subnet.blocks:
            yield _blocks(bench, subnet)
    if bench.starts:
        yield _starts(bench)
    rows = [row for subnet in bench.subnets for row in _rows(bench, subnet)]
    yield Fold("Each subnet on each engine", (Table("engines", "Milliseconds of one call", COLUMNS, tuple(rows)),))


def _starts(bench: Bench) -> Table:
    rows = tuple(
        (
            Cell(NAMES.get(engine, engine), engine),
            Cell(f"{start.load_ms:.2f}", start.load_ms),
            Cell(f"{start.first_ms:.2f}", start.first_ms),
            Cell(units.UNKNOWN if start.peak_mb is None else f"{start.peak_mb:.1f}", start.peak_mb),
            Cell(f"{start.file_mb:.2f}", start.file_mb),
        )
        for engine, start in bench.starts.items()
    )
    return Table("starts", f"A fresh process: {bench.subnets[0].subnet}", START_COLUMNS, rows)


def _blocks(bench: Bench, subnet: BenchedSubnet) -> Table:
    """Blocks, as engines fuse different layers; a dash where an engine does not tell a block's time."""
    engines = [engine for engine in bench.engines if engine in subnet.blocks]
    names = dict.fromkeys(name for engine in engines for name in subnet.blocks[engine])
    rows = []
    for name in names:
        times = [subnet.blocks[engine].get(name) for engine in engines]
        shown = (Cell(units.UNKNOWN) if ms is None else Cell(units.microseconds(ms), 1e3 * ms) for ms in times)
        rows.append((Cell(units.words(name)), *shown))
    columns = (Column("block", is_text=True), *(Column(NAMES.get(engine, engine), "µs") for engine in engines))
    return Table("blocks", f"Block by block: {subnet.subnet}", columns, tuple(rows))


def _ratios(bench: Bench, protocol: str, engine: str) -> list[float]:
    pairs = [(subnet.protocols[protocol].get(engine), subnet.protocols[protocol].get(OURS)) for subnet in bench.subnets]
    return [theirs.median_ms / ours.median_ms for theirs, ours in pairs if theirs is not None and ours is not None]


def _spread(bench: Bench, protocol: str, engine: str) -> tuple[float, float, float]:
    """Geometric mean over subnets with the smallest and the largest; of one subnet, with those of its windows."""
    ratios = _ratios(bench, protocol, engine)
    if len(ratios) == 1:
        times = bench.subnets[0].protocols[protocol]
        theirs, ours = times[engine], times[OURS]
        return ratios[0], theirs.low_ms / ours.high_ms, theirs.high_ms / ours.low_ms
    return math.exp(sum(map(math.log, ratios)) / len(ratios)), min(ratios), max(ratios)


def _ranges(bench: Bench, protocol: str, title: str) -> Ranges:
    engines = [engine for engine in bench.engines if engine != OURS and _ratios(bench, protocol, engine)]
    spreads = {engine: _spread(bench, protocol, engine) for engine in engines}
    ends = [1.0, *(end for _, low, high in spreads.values() for end in (low, high))]
    scale = Axis.over(map(math.log, ends))
    many = len(bench.subnets)
    what = f"geometric mean of {many} subnets, smallest to largest" if many > 1 else "fastest to slowest windows"
    return Ranges(
        title=f"{title}; {what}",
        equal=scale(0.0),
        equal_label="as fast as ours; the scale is logarithmic",
        ranges=tuple(
            Range(
                label=NAMES.get(engine, engine),
                note=bench.engines[engine].version or "",
                low=scale(math.log(low)),
                middle=scale(math.log(middle)),
                high=scale(math.log(high)),
                texts=(units.times(middle), f"{low:.2f} to {high:.2f}"),
                tone="plain" if bench.is_unstable else _tone(low, high),
            )
            for engine, (middle, low, high) in spreads.items()
        ),
    )


def _tone(low: float, high: float) -> Tone:
    return "good" if low > 1 else "bad" if high < 1 else "plain"


def _rows(bench: Bench, subnet: BenchedSubnet) -> Iterator[tuple[Cell, ...]]:
    for protocol, times in subnet.protocols.items():
        for engine in bench.engines:
            if engine in times:
                yield (
                    Cell(NAMES.get(engine, engine), engine),
                    Cell(protocol),
                    *_cells(times[engine], times.get(OURS)),
                    Cell(subnet.subnet, is_code=True),
                )


def _cells(theirs: EngineTime, ours: EngineTime | None) -> Iterator[Cell]:
    for value in (theirs.median_ms, theirs.low_ms, theirs.high_ms, theirs.p90_ms):
        yield Cell(units.digits(value), value)
    ratio = None if ours is None else theirs.median_ms / ours.median_ms
    yield Cell(units.UNKNOWN if ratio is None else units.times(ratio), ratio)
