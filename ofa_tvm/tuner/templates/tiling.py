"""What the tile templates share: sizes that divide, and loops that become registers."""

from __future__ import annotations

from typing import Any

from ofa_tvm.compiler.cpu_features import CpuFeatures

Parameters = dict[str, int]

FMA_LATENCY_CYCLES = 4
PER_CYCLE = 2
MIN_LANES = 4
MAX_ROWS = 4


def divisors(value: int) -> list[int]:
    """All divisors, ascending."""
    return [divisor for divisor in range(1, value + 1) if value % divisor == 0]


def tiles(size: int) -> list[tuple[int, int]]:
    """(rows, columns) of pixel tiles that divide a square map; several rows only of whole rows."""
    single = [(1, columns) for columns in divisors(size)]
    return single + [(rows, size) for rows in divisors(size) if 1 < rows <= MAX_ROWS]


def widest_lanes(channels: int, features: CpuFeatures) -> int:
    """The most lanes of one vector that divide the channels."""
    lanes = features.lanes
    while channels % lanes:
        lanes //= 2
    return lanes


def vectorize(sch: Any, loop: Any, lanes: int) -> None:
    """Split a loop over channels into unrolled vectors."""
    outer, inner = sch.split(loop, [None, lanes])
    sch.unroll(outer)
    sch.vectorize(inner)


def finish_tile(sch: Any, block: Any, depth: int, lanes: int) -> None:
    """Unroll and vectorise the loops of a block that runs once per tile, below ``depth`` outer loops."""
    *pixels, channels = sch.get_loops(block)[depth:]
    for loop in pixels:
        sch.unroll(loop)
    vectorize(sch, channels, lanes)
