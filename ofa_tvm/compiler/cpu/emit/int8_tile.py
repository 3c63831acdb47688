"""Register tiles of sums of products of bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_isa import SIGN_BITS, WORD, bits, dot, filled, wide
from ofa_tvm.compiler.cpu.emit.int8_order import dot_of, factor_levels, has_bytes, has_starts
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Buffer, Expr, blocks, keep, load, number, spread, store, vectors
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.biased_sums import BIAS_BITS, sums_are_biased


def shuffled(value: Expr, units: list[int]) -> Expr:
    """Lanes of a vector in another order, or some of them."""
    return tirx.Shuffle([value], [number(unit) for unit in units])


def as_factor(words: Expr, lanes: int, features: CpuFeatures) -> Expr:
    """Words of levels as dot products take them."""
    if not has_starts(features):
        return words
    return tirx.bitwise_xor(words, filled(SIGN_BITS, "int32", lanes))


def widen(words: Buffer, at: Expr, levels: int, wider: Buffer, to: Expr, features: CpuFeatures) -> None:
    """Write neighbouring bytes of a map as 16-bit numbers to another buffer.

    Args:
        words: of four bytes.
        at: the first word.
        levels: how many, a multiple of four.
        wider: words of two 16-bit numbers.
        to: the first of them.
        features: of the CPU.
    """
    lanes = features.lanes

    def some_levels(first: Expr, count: int) -> None:
        for vector in vectors(count // 2, lanes):
            data = load(words, at + first // WORD + vector.offset // 2, vector.lanes // 2)
            numbers = bits(data, wide("uint8", 2 * vector.lanes)).astype(wide("uint16", 2 * vector.lanes))
            store(wider, bits(numbers, wide("int32", vector.lanes)), to + first // 2 + vector.offset, vector.lanes)

    blocks(levels, 2 * lanes, some_levels)


def word_tile_fits(pixels: int, channels: int, features: CpuFeatures) -> bool:
    """Whether a register tile leaves room for a row of weights and its inputs: one, or on ARM one of each pixel.

    Products of 16-bit numbers are added by an instruction of their own, so they need a register, too.
    """
    inputs = pixels if has_starts(features) else 1 if has_bytes(features) else 2
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
        """Add the products of a lane's word; levels are as ``as_factor`` gives them."""
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
    """Add the product of a tile's pixels with one weight panel, see ``vector_ir.multiply_add``.

    ``words`` and ``pixel_at`` are words as dot products take them (``widen``), ``depth`` is inputs.
    """
    features = tile.features
    depth //= factor_levels(features)
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
