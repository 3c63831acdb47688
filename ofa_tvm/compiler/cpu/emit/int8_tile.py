"""Register tiles of sums of products of bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_isa import (
    SIGN_BITS,
    WORD,
    bits,
    dot,
    filled,
    is_arm,
    matrix_product,
    unknown_zero,
    wide,
)
from ofa_tvm.compiler.cpu.emit.int8_order import dot_of, factor_levels, has_bytes, has_matrices, has_starts
from ofa_tvm.compiler.cpu.emit.template import LOAD, PER_CYCLE, TAKEN, tile_cycles
from ofa_tvm.compiler.cpu.emit.vector_ir import FLOAT, Buffer, Expr, blocks, keep, load, number, spread, store, vectors
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.biased_sums import first_sum, sums_are_biased

DOT_LATENCY_CYCLES = 2


def shuffled(value: Expr, units: list[int]) -> Expr:
    """Lanes of a vector in another order, or some of them."""
    return tirx.Shuffle([value], [number(unit) for unit in units])


def lane_in_all(value: Expr, lane: int, lanes: int) -> Expr:
    """A lane of a vector of at least half as many."""
    return tirx.Shuffle([value, value], [number(lane)] * lanes)


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
    inputs = pixels if is_arm(dot_of(features)) else 1 if has_bytes(features) else 2
    vectors_wide = -(-channels // features.lanes)
    return pixels * vectors_wide + vectors_wide + inputs <= features.registers


def product_cycles(depth: int, pixels: int, channels: int, features: CpuFeatures, are_factors: bool = False) -> float:
    """Expected cycles of a register tile's products of so many inputs, see ``multiply_words``."""
    words, wide_channels = depth // factor_levels(features), -(-channels // features.lanes)
    if not is_arm(dot_of(features)):
        return words * tile_cycles(pixels, channels, features.lanes)
    # Of four words.
    loads = pixels + WORD * wide_channels
    if has_matrices(depth, features):
        work = -(-pixels // 2) * (WORD * wide_channels + 2)
    else:
        work = pixels * (WORD * wide_channels + (has_starts(features) and not are_factors))
    return words / WORD * max(max(work, loads) / PER_CYCLE, (work + LOAD * loads) / TAKEN, WORD * DOT_LATENCY_CYCLES)


class WordTile:
    """A register tile of sums: ``pixels`` times the vectors of ``channels``.

    Args:
        pixels: of the tile.
        channels: of the tile.
        features: of the CPU.
        depth: products that each sum gets; None where sums are float32.
        own_starts: where the tile's starts are, where sums have them, and the task.
        of_matrices: a vector is two channels of two pixels, as products of matrices give them.
    """

    def __init__(
        self,
        pixels: int,
        channels: int,
        features: CpuFeatures,
        depth: int | None = None,
        own_starts: tuple[Buffer, Expr, Expr] | None = None,
        of_matrices: bool = False,
    ) -> None:
        self.pixels, self.vectors, self.features = pixels, vectors(channels, features.lanes), features
        self.of_matrices = of_matrices
        self._dtype = FLOAT if depth is None else "int32"
        self._channels, self._is_biased = channels, depth is not None and sums_are_biased(depth)
        held = pixels + pixels % 2 if of_matrices else pixels
        self._registers = T.alloc_buffer((held * channels,), self._dtype, scope="local")
        for vector in self.vectors:
            for pixel in range(held):
                start = filled(0 if depth is None else first_sum(depth), self._dtype, vector.lanes)
                if own_starts is not None and has_starts(features):
                    buffer, at, task = own_starts
                    start = load(buffer, at + vector.offset + unknown_zero(task, pixel), vector.lanes)
                store(self._registers, start, self._at(pixel, vector.offset), vector.lanes)

    def update(self, pixel: int, offset: int, lanes: int, change: Callable[[Expr], Expr]) -> None:
        """Replace a pixel's vector."""
        at = self._at(pixel, offset)
        store(self._registers, change(load(self._registers, at, lanes)), at, lanes)

    def add_dot(self, pixel: int, offset: int, lanes: int, levels: Expr, weights: Expr) -> None:
        """Add the products of a lane's word; levels are as ``as_factor`` gives them."""
        self.update(pixel, offset, lanes, lambda total: dot(total, levels, weights, lanes, dot_of(self.features)))

    def add_matrix(self, pixel: int, offset: int, levels: Expr, weights: Expr) -> None:
        """Add the products of two pixels' words with those of two channels; both numbers are even."""
        at = number(pixel * self._channels + 2 * offset)
        store(self._registers, matrix_product(load(self._registers, at, WORD), levels, weights), at, WORD)

    def add(self, pixel: int, offset: int, lanes: int, value: Expr) -> None:
        """Add a vector."""
        self.update(pixel, offset, lanes, lambda total: total + value)

    def floats(self, pixel: int, offset: int, lanes: int) -> Expr:
        """A pixel's sums as float32, biased if they are (``graph.biased_sums``)."""
        value = self._of_matrices(pixel, offset) if self.of_matrices else self._of_lanes(pixel, offset, lanes)
        if self._is_biased:
            return keep(bits(value, wide(FLOAT, lanes)))
        return keep(value if self._dtype == FLOAT else value.astype(wide(FLOAT, lanes)))

    def _of_lanes(self, pixel: int, offset: int, lanes: int) -> Expr:
        return load(self._registers, self._at(pixel, offset), lanes)

    def _of_matrices(self, pixel: int, offset: int) -> Expr:
        first = pixel // 2 * 2 * self._channels + 2 * offset
        pairs = [keep(load(self._registers, number(at), WORD)) for at in (first, first + WORD)]
        return keep(tirx.Shuffle(pairs, [number(2 * (pixel % 2) + lane) for lane in (0, 1, 4, 5)]))

    def _at(self, pixel: int, offset: int) -> Expr:
        return number(pixel * self._channels + offset)


def multiply_words(
    tile: WordTile,
    words: Buffer,
    pixel_at: Callable[[int], Expr],
    weights: Buffer,
    at: Expr,
    depth: int,
    are_factors: bool = False,
) -> None:
    """Add the product of a tile's pixels with one weight panel, see ``vector_ir.multiply_add``.

    ``words`` and ``pixel_at`` are words as dot products take them (``widen``), ``depth`` is inputs. ``are_factors``:
    the words are as ``as_factor`` gives them already.
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

    def matrix_step(k: Expr, loaded: list[Expr], order: list[Expr]) -> None:
        last = tile.pixels - 1
        pairs = [
            keep(tirx.Shuffle([loaded[pixel], loaded[min(pixel + 1, last)]], order)) for pixel in range(0, last + 1, 2)
        ]
        for offset in range(0, width, 2):
            weight = keep(load(weights, first + k * width + 2 * offset, WORD))
            for pair, levels in enumerate(pairs):
                tile.add_matrix(2 * pair, offset, levels, weight)

    def some_words(k: Expr, count: int) -> None:
        """As many words of each pixel at once, of which NEON multiplies by any."""
        loaded = []
        for pixel in range(tile.pixels):
            own = load(words, pixel_at(pixel) + k, count)
            loaded.append(keep(own if are_factors else as_factor(own, count, features)))
        if tile.of_matrices:
            for word in range(0, count, 2):
                matrix_step(k + word, loaded, [number(word + at) for at in (0, 1, count, count + 1)])
        else:
            for word in range(count):
                step(k + word, partial(_lane, loaded, word if count > 1 else None))

    if not is_arm(dot_of(features)):
        with T.serial(0, depth) as k:
            some_words(k, 1)
        return
    whole = depth // WORD
    if whole:
        with T.serial(0, whole) as turn:
            some_words(turn * WORD, WORD)
    for rest in vectors(depth % WORD, WORD):
        some_words(number(whole * WORD + rest.offset), rest.lanes)


def _lane(loaded: list[Expr], lane: int | None, pixel: int, lanes: int) -> Expr:
    """A lane of a pixel's vector, or the word that it is, in all lanes."""
    return spread(loaded[pixel], lanes) if lane is None else lane_in_all(loaded[pixel], lane, lanes)
