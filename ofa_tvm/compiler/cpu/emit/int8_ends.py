"""How sums become bytes again, are written, read as a residual, and summed over a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures, Dot
from ofa_tvm.compiler.cpu.emit.int8_isa import (
    WORD,
    add_bytes,
    bits,
    clipped,
    filled,
    floats_of_bytes,
    fused,
    is_arm,
    narrowed,
    rounded,
    unknown_zero,
    wide,
)
from ofa_tvm.compiler.cpu.emit.int8_order import NARROWED, Group, dot_of, groups
from ofa_tvm.compiler.cpu.emit.int8_tile import as_factor, shuffled
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Buffer, Expr, keep, load, store, vectors
from ofa_tvm.graph.kernel import KernelSpec, end_rows
from ofa_tvm.graph.network import Activation

ARM_END = {False: 4.5, True: 8.5}
"""Vector instructions from a vector of sums to its part of a vector of bytes, without and with hard-swish."""


@dataclass(frozen=True)
class Ends:
    """A kernel's ``ends``, see ``graph.kernel.quantised_arrays``: rows of float32, channels dealt."""

    buffer: Buffer
    channels: int
    activation: Activation
    dot: Dot
    task: Expr

    def of_tile(self, first: Expr) -> Ends:
        """Of a tile whose first column or pixel this is.

        What is added with hard-swish is more than registers hold: LLVM would load it before all tiles, and spill it.
        """
        return replace(self, task=self.task + first) if self.activation == "hard_swish" else self

    def row(self, row: int, channel: Expr, lanes: int) -> Expr:
        """Neighbouring lanes of a row."""
        return keep(load(self.buffer, row * self.channels + channel, lanes))

    def added(self, row: int, channel: Expr, lanes: int, pixel: int) -> Expr:
        """Neighbouring lanes of a row that is added to products."""
        if not is_arm(self.dot):
            return self.row(row, channel, lanes)
        return self.row(row, channel + unknown_zero(self.task, pixel), lanes)

    def levels(self, sums: Expr, channel: Expr, lanes: int, pixel: int, residual: Expr = None) -> Expr:
        """A pixel's float32 sums as levels that are not rounded yet; ``residual`` are levels to add."""
        scale, plus = self.row(0, channel, lanes), self.added(1, channel, lanes, pixel)
        if self.activation == "hard_swish":
            gate = keep(clipped(self.gate(sums, channel, lanes, pixel), 0, 1, lanes, self.dot))
            return fused(keep(fused(sums, scale, plus, lanes)), gate, self.added(4, channel, lanes, pixel), lanes)
        if residual is not None:
            plus = keep(fused(residual, self.row(2, channel, lanes), plus, lanes))
        return fused(sums, scale, plus, lanes)

    def gate(self, sums: Expr, channel: Expr, lanes: int, pixel: int) -> Expr:
        """Hard-swish's gate, not clipped yet."""
        return keep(fused(sums, self.row(2, channel, lanes), self.added(3, channel, lanes, pixel), lanes))


def ends_argument(spec: KernelSpec, channels: int) -> tuple[str, int]:
    """The argument that ``Ends`` reads."""
    return FLOAT, end_rows(spec) * channels


@dataclass(frozen=True)
class Written:
    """Where levels are written.

    Args:
        buffer: words.
        place: the word of (pixel, channel of the tile).
        are_factors: written as ``as_factor`` gives them.
    """

    buffer: Buffer
    place: Callable[[int, int], Expr]
    are_factors: bool = False


@dataclass(frozen=True)
class TileSums:
    """Sums that a tile's levels are added to: int32 in a float32 buffer until ``close_sums``.

    Args:
        buffer: of all channels.
        channel: the tile's first.
        features: of the CPU.
    """

    buffer: Buffer
    channel: Expr
    features: CpuFeatures

    @staticmethod
    def channels(features: CpuFeatures) -> int:
        """Channels of a tile at most: one vector, on ARM as many as are narrowed at once."""
        return WORD * WORD if is_arm(dot_of(features)) else features.lanes

    def add(self, data: Expr, group: Group, live: int, total: Expr | None) -> Expr | None:
        """Add narrowed pixels, or where a group has several vectors, to a total in 16 bits that ``close`` adds."""
        if group.vectors == 1:
            ones = filled(sum(1 << 8 * pixel for pixel in range(live)), "int32", group.lanes)
            self._change(
                group, lambda sums: add_bytes(sums, pixel_words(data, group), ones, group.lanes, dot_of(self.features))
            )
            return None
        for pixel in range(live):
            own = shuffled(data, list(range(pixel * group.width, (pixel + 1) * group.width)))
            levels = bits(own, wide("uint8", group.width)).astype(wide("uint16", group.width))
            total = keep(levels if total is None else total + levels)
        return total

    def close(self, total: Expr, group: Group) -> None:
        """Add a total."""
        self._change(group, lambda sums: sums + total.astype(wide("int32", group.width)))

    def _change(self, group: Group, change: Callable[[Expr], Expr]) -> None:
        at, lanes = self.channel + group.offset, group.width
        sums = bits(load(self.buffer, at, lanes), wide("int32", lanes))
        store(self.buffer, bits(change(sums), wide(FLOAT, lanes)), at, lanes)


def write_levels(
    value: Callable[[int, int, int], Expr],
    count: int,
    width: int,
    features: CpuFeatures,
    written: Written | None,
    sums: TileSums | None = None,
) -> None:
    """Round and write a tile of bytes.

    Args:
        value: float vector of (pixel, first lane in the tile, lanes).
        count: pixels of the tile.
        width: channels of the tile.
        features: of the CPU.
        written: where to; None where only sums are wanted.
        sums: of the channels, where they are wanted.
    """
    how = dot_of(features)
    for group in groups(width, features.lanes):
        total = None
        for first in range(0, count, group.pixels):
            live = min(group.pixels, count - first)
            integers = [
                keep(rounded(value(first + pixel, group.offset + group.lanes * vector, group.lanes), group.lanes, how))
                for pixel in range(live)
                for vector in range(group.vectors)
            ]
            data = narrowed([*integers, *[integers[-1]] * (NARROWED - len(integers))], group.lanes, how)
            if sums is not None:
                total = sums.add(data, group, live, total)
            if written is not None:
                places = [written.place(first + pixel, group.offset) for pixel in range(live)]
                _store_pixels(data, group, written, places, features)
        if sums is not None and total is not None:
            sums.close(total, group)


def pixel_words(data: Expr, group: Group) -> Expr:
    """Narrowed vectors of four pixels of the same channels, as words of the four pixels of a channel."""
    parts = range(group.lanes // WORD)
    order = [16 * part + WORD * pixel + byte for part in parts for byte in range(WORD) for pixel in range(NARROWED)]
    return keep(bits(shuffled(data, order), wide("int32", group.lanes)))


def _store_pixels(data: Expr, group: Group, written: Written, places: list[Expr], features: CpuFeatures) -> None:
    words, per_pixel = group.lanes, group.width // WORD
    data = bits(data, wide("int32", words))
    if written.are_factors:
        data = as_factor(data, words, features)
    if group.pixels > 1 and group.lanes > WORD:
        unit = group.vectors
        parts = range(group.lanes // WORD)
        order = [
            (part * group.pixels + pixel) * unit + word
            for pixel in range(group.pixels)
            for part in parts
            for word in range(unit)
        ]
        data = keep(shuffled(data, order))
    else:
        data = keep(data)
    for pixel, at in enumerate(places):
        own = data if per_pixel == words else shuffled(data, [pixel * per_pixel + word for word in range(per_pixel)])
        store(written.buffer, own, at, per_pixel)


def load_levels(buffer: Buffer, at: Expr, group: Group, vector: int) -> Expr:
    """Levels of a pixel's group as float32, dealt as a vector of sums is; ``at`` is the word of the group."""
    data = load(buffer, at, group.width // WORD)
    if group.vectors == NARROWED and group.lanes == WORD:
        return keep(floats_of_bytes(keep(data), WORD * vector))
    if group.vectors > 1:
        parts = range(group.lanes // WORD)
        data = shuffled(keep(data), [part * group.vectors + vector for part in parts])
    as_bytes = bits(data, wide("uint8", group.lanes))
    return keep(as_bytes.astype(wide("int32", group.lanes)).astype(wide(FLOAT, group.lanes)))


def close_sums(sums: Buffer, at: Expr, width: int, lanes: int) -> None:
    """Turn sums of neighbouring channels into numbers."""
    for vector in vectors(width, lanes):
        as_int = bits(load(sums, at + vector.offset, vector.lanes), wide("int32", vector.lanes))
        store(sums, as_int.astype(wide(FLOAT, vector.lanes)), at + vector.offset, vector.lanes)


def arm_end_cycles(
    pixels: int, channels: int, activation: Activation, is_pooled: bool = False, is_ring: bool = False
) -> float:
    """Expected cycles of a tile's way from sums to bytes on ARM, where two vector instructions go in a cycle."""
    total = 0.0
    for group in groups(channels, WORD):
        packs = -(-pixels // group.pixels)
        each = NARROWED * ARM_END[activation == "hard_swish"]
        stores = 2 if is_ring else 1 if group.pixels == 1 else 2 * group.pixels
        total += packs * (each + stores + 3 * is_pooled) / 2
    return total
