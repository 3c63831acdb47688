"""How sums become bytes again, are written, read as a residual, and summed over a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, add_bytes, bits, clipped, filled, fused, narrowed, rounded, wide
from ofa_tvm.compiler.cpu.emit.int8_order import NARROWED, Group, dot_of, groups
from ofa_tvm.compiler.cpu.emit.int8_tile import shuffled
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Buffer, Expr, keep, load, store, vectors
from ofa_tvm.graph.kernel import KernelSpec, end_rows
from ofa_tvm.graph.network import Activation


@dataclass(frozen=True)
class Ends:
    """A kernel's ``ends``, see ``graph.kernel.quantised_arrays``: rows of float32, channels dealt."""

    buffer: Buffer
    channels: int
    activation: Activation

    def row(self, row: int, channel: Expr, lanes: int) -> Expr:
        """Neighbouring lanes of a row."""
        return keep(load(self.buffer, row * self.channels + channel, lanes))

    def levels(self, sums: Expr, channel: Expr, lanes: int, added: Expr = None) -> Expr:
        """Float32 sums as levels that are not rounded yet; ``added`` are a residual's levels."""
        scale, plus = self.row(0, channel, lanes), self.row(1, channel, lanes)
        if self.activation == "hard_swish":
            gate = keep(clipped(self.gate(sums, channel, lanes), 0, 1, lanes))
            return fused(keep(fused(sums, scale, plus, lanes)), gate, self.row(4, channel, lanes), lanes)
        if added is not None:
            plus = keep(fused(added, self.row(2, channel, lanes), plus, lanes))
        return fused(sums, scale, plus, lanes)

    def gate(self, sums: Expr, channel: Expr, lanes: int) -> Expr:
        """Hard-swish's gate, not clipped yet."""
        return keep(fused(sums, self.row(2, channel, lanes), self.row(3, channel, lanes), lanes))


def ends_argument(spec: KernelSpec, channels: int) -> tuple[str, int]:
    """The argument that ``Ends`` reads."""
    return FLOAT, end_rows(spec) * channels


Summed = Callable[[Expr, Group, int], None]


def write_levels(
    value: Callable[[int, int, int], Expr],
    count: int,
    width: int,
    features: CpuFeatures,
    buffer: Buffer | None,
    place: Callable[[int, int], Expr],
    summed: Summed | None = None,
) -> None:
    """Round and write a tile of bytes.

    Args:
        value: float vector of (pixel, first lane in the tile, lanes).
        count: pixels of the tile.
        width: channels of the tile.
        features: of the CPU.
        buffer: words; None where only sums are wanted.
        place: the word of (pixel, channel of the tile).
        summed: gets words of four pixels of a channel, the channels' group, and how many of the pixels are new.
    """
    how = dot_of(features)
    for group in groups(width, features.lanes):
        for first in range(0, count, group.pixels):
            live = min(group.pixels, count - first)
            integers = [
                keep(rounded(value(first + pixel, group.offset + group.lanes * vector, group.lanes), group.lanes, how))
                for pixel in range(live)
                for vector in range(group.vectors)
            ]
            data = narrowed([*integers, *[integers[-1]] * (NARROWED - len(integers))], group.lanes, how)
            if summed is not None:
                summed(pixel_words(data, group), group, live)
            if buffer is not None:
                _store_pixels(data, group, buffer, [place(first + pixel, group.offset) for pixel in range(live)])


def pixel_words(data: Expr, group: Group) -> Expr:
    """Narrowed vectors of four pixels of the same channels, as words of the four pixels of a channel."""
    parts = range(group.lanes // WORD)
    order = [16 * part + WORD * pixel + byte for part in parts for byte in range(WORD) for pixel in range(NARROWED)]
    return keep(bits(shuffled(data, order), wide("int32", group.lanes)))


def _store_pixels(data: Expr, group: Group, buffer: Buffer, places: list[Expr]) -> None:
    words, per_pixel = group.lanes, group.width // WORD
    data = bits(data, wide("int32", words))
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
        store(buffer, own, at, per_pixel)


def load_levels(buffer: Buffer, at: Expr, group: Group, vector: int) -> Expr:
    """Levels of a pixel's group as float32, dealt as a vector of sums is; ``at`` is the word of the group."""
    data = load(buffer, at, group.width // WORD)
    if group.vectors > 1:
        parts = range(group.lanes // WORD)
        data = shuffled(keep(data), [part * group.vectors + vector for part in parts])
    as_bytes = bits(data, wide("uint8", group.lanes))
    return keep(as_bytes.astype(wide("int32", group.lanes)).astype(wide(FLOAT, group.lanes)))


def add_sums(sums: Buffer, at: Expr, words: Expr, live: int, group: Group, features: CpuFeatures) -> None:
    """Add words of pixels to sums of their channels, which are int32 in a float32 buffer until ``close_sums``."""
    lanes = group.lanes
    ones = filled(sum(1 << 8 * pixel for pixel in range(live)), "int32", lanes)
    total = add_bytes(bits(load(sums, at, lanes), wide("int32", lanes)), words, ones, lanes, dot_of(features))
    store(sums, bits(total, wide(FLOAT, lanes)), at, lanes)


def close_sums(sums: Buffer, at: Expr, width: int, lanes: int) -> None:
    """Turn sums of neighbouring channels into numbers."""
    for vector in vectors(width, lanes):
        as_int = bits(load(sums, at + vector.offset, vector.lanes), wide("int32", vector.lanes))
        store(sums, as_int.astype(wide(FLOAT, vector.lanes)), at + vector.offset, vector.lanes)
