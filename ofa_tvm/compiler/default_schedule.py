"""The schedule of a kernel that nobody has tuned: register tiles, vectors over channels, parallel outer tiles.

It needs no measurement and stays within a small factor of a tuned kernel, so a subnet always runs at a decent speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import gcd, prod
from typing import Any

from ofa_tvm.compiler.cpu_features import CpuFeatures, cpu_features
from ofa_tvm.compiler.tvm_import import IRModule, Schedule, Target

PARALLEL_WORK = 100_000  # inner iterations below which starting threads costs more than they save
MATVEC_VECTORS = 8  # independent sums that hide the latency of a fused multiply-add

Block = Any
Loop = Any


@dataclass(frozen=True)
class Tile:
    """Register tile: ``pixels`` by ``channels``, in vectors of ``lanes``."""

    pixels: int
    channels: int
    lanes: int


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _lanes(channels: int, features: CpuFeatures) -> int:
    return gcd(channels, features.lanes)


def choose_tile(width: int, channels: int, features: CpuFeatures) -> Tile:
    """The tile that fits the registers and loads least for each multiply-add.

    Args:
        width: pixels of an output row; the tile's pixels divide it.
        channels: output channels; the tile's channels divide it.
        features: the CPU.
    """
    best, best_loads = Tile(1, 1, 1), 2.0
    for pixels in _divisors(width):
        for tile_channels in _divisors(channels):
            lanes = _lanes(tile_channels, features)
            vectors = tile_channels // lanes
            if pixels * vectors + vectors + 1 > features.registers:
                continue
            loads = (1 / pixels + 1 / vectors) / lanes
            if loads < best_loads:
                best, best_loads = Tile(pixels, tile_channels, lanes), loads
    return best


def choose_vector_tile(channels: int, features: CpuFeatures) -> Tile:
    """The tile of a kernel with a single output pixel: several vectors of channels."""
    limit = MATVEC_VECTORS * features.lanes
    size = max(
        (divisor for divisor in _divisors(channels) if divisor <= limit),
        key=lambda divisor: (_lanes(divisor, features), divisor),
    )
    return Tile(1, size, _lanes(size, features))


def _vectorize(schedule: Schedule, channel: Loop, lanes: int) -> Loop:
    """Split a loop over channels into vectors; returns the loop over vectors."""
    vectors, lane = schedule.split(channel, [None, lanes])
    schedule.vectorize(lane)
    return vectors


def _extents(schedule: Schedule, block: Block) -> list[int]:
    return [int(schedule.get(loop).extent) for loop in schedule.get_loops(block)]


def _work(schedule: Schedule, block: Block) -> int:
    return prod(_extents(schedule, block))


def _parallel(schedule: Schedule, loop: Loop, work: int, features: CpuFeatures) -> None:
    if features.cores > 1 and work >= PARALLEL_WORK:
        schedule.parallel(loop)


def _schedule_elementwise(schedule: Schedule, block: Block, features: CpuFeatures) -> None:
    """A step that stays on its own (padding, scaling): rows in parallel, channels in vectors."""
    work, channels = _work(schedule, block), _extents(schedule, block)[-1]
    *outer, channel = schedule.get_loops(block)
    rows = schedule.fuse(*outer)
    _vectorize(schedule, channel, _lanes(channels, features))
    _parallel(schedule, rows, work, features)


def _schedule_reduction(schedule: Schedule, block: Block, consumer: Block, features: CpuFeatures) -> None:
    """A reduction and the element-wise step behind it: one register tile at a time."""
    work = _work(schedule, block)
    width, channels = _extents(schedule, block)[2:4]
    tile = choose_tile(width, channels, features) if width > 1 else choose_vector_tile(channels, features)
    *pixels, channel = schedule.get_loops(block)[:4]
    reductions = schedule.get_loops(block)[4:]
    pixel_tiles, pixel = schedule.split(schedule.fuse(*pixels), [None, tile.pixels])
    channel_tiles, vectors, lane = schedule.split(channel, [None, tile.channels // tile.lanes, tile.lanes])
    schedule.reorder(channel_tiles, pixel_tiles, *reductions, pixel, vectors, lane)
    tiles = schedule.fuse(channel_tiles, pixel_tiles)
    schedule.reverse_compute_at(consumer, tiles)
    schedule.vectorize(lane)
    *finished, finished_channel = schedule.get_loops(consumer)[1:]
    for loop in (pixel, vectors, *finished, _vectorize(schedule, finished_channel, tile.lanes)):
        schedule.unroll(loop)
    _parallel(schedule, tiles, work, features)
    schedule.decompose_reduction(block, reductions[0])


def schedule_by_default(schedule: Schedule, target: Target) -> bool:
    """Schedule a kernel's workload in place; False, and nothing done, for a target other than ``llvm``."""
    if target.kind.name != "llvm":
        return False
    features = cpu_features(target)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    for block in blocks:
        if schedule.get(block).name_hint in ("scaled", "padded"):
            _schedule_elementwise(schedule, block, features)
    for block, consumer in pairwise(blocks):
        if schedule.get(block).init is not None:
            _schedule_reduction(schedule, block, consumer, features)
    return True


def default_schedule(workload: IRModule, target: Target) -> Schedule | None:
    """The default schedule of a kernel's workload (see ``kernel_workload``), or None where there is none."""
    schedule = Schedule(workload)
    return schedule if schedule_by_default(schedule, target) else None
