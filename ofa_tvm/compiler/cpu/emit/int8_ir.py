"""Words of the int8 emitters: dot products of bytes, and how sums become bytes again.

Maps are buffers of 32-bit words of four channels. Vectors of sums are narrowed by saturating packs, four vectors into
one, which interleave 128-bit parts. So the channels of a tile are dealt to the lanes of its vectors such that the
bytes come out in the order of the map: constants are packed in ``dealt_order``, and at run time nothing is shuffled for
64 channels (at 16 lanes), and whole units of 8 or 4 bytes for 32 or 16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures, Dot
from ofa_tvm.compiler.cpu.emit.int8_isa import (
    LEVEL_OFFSET,
    SIGN_BITS,
    WORD,
    add_bytes,
    bits,
    clipped,
    dot,
    filled,
    fused,
    narrowed,
    rounded,
    takes_signed,
    wide,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Buffer, Expr, keep, load, number, spread, store, vectors
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.biased_sums import BIAS_BITS, sums_are_biased
from ofa_tvm.graph.kernel import KernelSpec, end_rows
from ofa_tvm.graph.network import Activation

NARROWED = 4
"""Vectors that are packed into one."""


def is_int8(spec: KernelSpec, kind: str) -> bool:
    """Whether a kernel is of this kind, with maps of whole words."""
    is_whole = spec.in_channels % WORD == 0 and spec.out_channels % WORD == 0
    return spec.dtype == "int8" and spec.kind == kind and spec.batch == 1 and (is_whole or kind == "dense")


def word_count(elements: int) -> int:
    """Words of so many bytes."""
    return -(-elements // WORD)


def shuffled(value: Expr, units: list[int]) -> Expr:
    """Lanes of a vector in another order, or some of them."""
    return tirx.Shuffle([value], [number(unit) for unit in units])


@dataclass(frozen=True)
class Group:
    """Neighbouring channels of a tile whose vectors are narrowed together.

    Args:
        offset: of the first channel in the tile.
        lanes: of a vector.
        vectors: side by side; 4, 2 or 1, so that one pack serves 1, 2 or 4 pixels.
    """

    offset: int
    lanes: int
    vectors: int

    @property
    def width(self) -> int:
        """Channels."""
        return self.lanes * self.vectors

    @property
    def pixels(self) -> int:
        """Pixels that one pack serves."""
        return NARROWED // self.vectors

    def channel(self, vector: int) -> list[int]:
        """Channel, from ``offset``, of each lane of a vector."""
        parts, unit = range(self.lanes // WORD), WORD * self.vectors
        return [unit * part + WORD * vector + byte for part in parts for byte in range(WORD)]


def groups(width: int, lanes: int) -> list[Group]:
    """A tile's channels, which are whole words, in groups."""
    cut, offset = [], 0
    while offset < width:
        while lanes > width - offset:
            lanes //= 2
        count = next(count for count in (4, 2, 1) if lanes * count <= width - offset)
        cut.append(Group(offset, lanes, count))
        offset += cut[-1].width
    return cut


def dealt_order(channels: int, lanes: int, *sizes: int) -> NDArray[np.intp]:
    """Channels in the order of the lanes, for blocks of the first size, cut into blocks of the second, ..."""
    if sizes:
        starts = range(0, channels, sizes[0])
        parts = [start + dealt_order(min(sizes[0], channels - start), lanes, *sizes[1:]) for start in starts]
        return np.concatenate(parts)
    order = [
        group.offset + channel
        for group in groups(channels, lanes)
        for vector in range(group.vectors)
        for channel in group.channel(vector)
    ]
    return np.array(order, dtype=np.intp)


def pack_words(matrix: NDArray[np.int8], features: CpuFeatures, *sizes: int) -> NDArray[np.int8]:
    """``vector_ir.pack_panels`` with the bytes of four inputs of an output side by side.

    Inputs and outputs that are no whole words are filled with zeros. Where dot products take signed levels, each panel
    begins with what its sums begin with.
    """
    if sizes:
        parts = [matrix[:, start : start + sizes[0]] for start in range(0, matrix.shape[1], sizes[0])]
        return np.concatenate([pack_words(part, features, *sizes[1:]) for part in parts])
    depth, width = matrix.shape
    padded = np.pad(matrix, ((0, -depth % WORD), (0, -width % WORD)))
    words = padded.reshape(-1, WORD, padded.shape[1]).transpose(0, 2, 1).ravel()
    return np.concatenate([starts(padded), words]) if has_starts(features) else words


def starts(matrix: NDArray[np.int8]) -> NDArray[np.int8]:
    """What the sums of each output of a matrix (in, out) begin with, as bytes of int32."""
    sums: NDArray[np.int32] = LEVEL_OFFSET * matrix.sum(0, np.int32)
    return np.frombuffer(sums.astype(np.int32).tobytes(), np.int8)


def has_starts(features: CpuFeatures) -> bool:
    """Whether sums begin with numbers of their own."""
    return takes_signed(dot_of(features))


def dot_of(features: CpuFeatures) -> Dot:
    """How a CPU that has int8 kernels multiplies bytes."""
    return features.dot or "madd"


def panel_words(depth: int, features: CpuFeatures) -> int:
    """Words of each output in a panel of so many words of inputs."""
    return depth + has_starts(features)


def as_factor(words: Expr, lanes: int, features: CpuFeatures) -> Expr:
    """Words of levels as dot products take them."""
    if not has_starts(features):
        return words
    return tirx.bitwise_xor(words, filled(SIGN_BITS, "int32", lanes))


def word_tile_fits(pixels: int, channels: int, features: CpuFeatures) -> bool:
    """Whether a register tile leaves room for a row of weights and its inputs: one, or on ARM one of each pixel."""
    inputs = pixels if has_starts(features) else 1
    vectors_wide = -(-channels // features.lanes)
    return pixels * vectors_wide + vectors_wide + inputs <= features.registers


class WordTile:
    """A register tile of sums: ``pixels`` times the vectors of ``channels``.

    Args:
        pixels: of the tile.
        channels: of the tile.
        features: of the CPU.
        depth: products that each sum gets; None where sums are float32.
        own_starts: where the tile's starts are, where sums have them.
    """

    def __init__(
        self,
        pixels: int,
        channels: int,
        features: CpuFeatures,
        depth: int | None = None,
        own_starts: tuple[Buffer, Expr] | None = None,
    ) -> None:
        self.pixels, self.vectors, self.features = pixels, vectors(channels, features.lanes), features
        self._dtype = FLOAT if depth is None else "int32"
        self._channels, self._is_biased = channels, depth is not None and sums_are_biased(depth)
        self._registers = T.alloc_buffer((pixels * channels,), self._dtype, scope="local")
        for vector in self.vectors:
            start = filled(BIAS_BITS if self._is_biased else 0, self._dtype, vector.lanes)
            if own_starts is not None and has_starts(features):
                buffer, at = own_starts
                start = keep(start + load(buffer, at + vector.offset, vector.lanes))
            for pixel in range(pixels):
                store(self._registers, start, self._at(pixel, vector.offset), vector.lanes)

    def update(self, pixel: int, offset: int, lanes: int, change: Callable[[Expr], Expr]) -> None:
        """Replace a pixel's vector."""
        at = self._at(pixel, offset)
        store(self._registers, change(load(self._registers, at, lanes)), at, lanes)

    def add_dot(self, pixel: int, offset: int, lanes: int, levels: Expr, weights: Expr) -> None:
        """Add the products of four bytes a lane; levels are as ``as_factor`` gives them."""
        self.update(pixel, offset, lanes, lambda total: dot(total, levels, weights, lanes, dot_of(self.features)))

    def add(self, pixel: int, offset: int, lanes: int, value: Expr) -> None:
        """Add a vector."""
        self.update(pixel, offset, lanes, lambda total: total + value)

    def floats(self, pixel: int, offset: int, lanes: int) -> Expr:
        """A pixel's sums as float32, biased if they are (``graph.biased_sums``)."""
        value = load(self._registers, self._at(pixel, offset), lanes)
        if self._is_biased:
            return keep(bits(value, wide(FLOAT, lanes)))
        return keep(value if self._dtype == FLOAT else value.astype(wide(FLOAT, lanes)))

    def _at(self, pixel: int, offset: int) -> Expr:
        return number(pixel * self._channels + offset)


def multiply_words(
    tile: WordTile, words: Buffer, pixel_at: Callable[[int], Expr], weights: Buffer, at: Expr, depth: int
) -> None:
    """Add the product of a tile's pixels with one weight panel, see ``vector_ir.multiply_add``; all in words."""
    features = tile.features
    width = sum(vector.lanes for vector in tile.vectors)
    first = at + width * has_starts(features)

    def step(k: Expr, levels: Callable[[int, int], Expr]) -> None:
        row = [keep(load(weights, first + k * width + vector.offset, vector.lanes)) for vector in tile.vectors]
        for pixel in range(tile.pixels):
            for vector, weight in zip(tile.vectors, row, strict=True):
                tile.add_dot(pixel, vector.offset, vector.lanes, levels(pixel, vector.lanes), weight)

    def word_by_word(begin: int, end: int) -> None:
        with T.serial(begin, end) as k:
            loaded = [keep(as_factor(load(words, pixel_at(p) + k), 1, features)) for p in range(tile.pixels)]
            step(k, lambda pixel, lanes: spread(loaded[pixel], lanes))

    if not has_starts(features):
        word_by_word(0, depth)
        return
    # NEON multiplies by any lane of a register: a pixel's next four words are loaded at once.
    whole = depth // WORD
    if whole:
        with T.serial(0, whole) as turn:
            places = [pixel_at(p) + turn * WORD for p in range(tile.pixels)]
            loaded = [keep(as_factor(load(words, place, WORD), WORD, features)) for place in places]
            for word in range(WORD):
                step(turn * WORD + word, partial(_lane, loaded, word))
    if depth % WORD:
        word_by_word(whole * WORD, depth)


def _lane(vectors_of: list[Expr], lane: int, pixel: int, lanes: int) -> Expr:
    """A lane of a pixel's vector in all lanes."""
    return shuffled(vectors_of[pixel], [lane] * lanes)


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


def group_of(width: int, lanes: int, offset: int) -> tuple[Group, int]:
    """The group and the vector in it of the lanes at an offset of a tile."""
    for group in groups(width, lanes):
        if group.offset <= offset < group.offset + group.width:
            return group, (offset - group.offset) // group.lanes
    raise ValueError(f"no lane {offset} in a tile of {width}")


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
