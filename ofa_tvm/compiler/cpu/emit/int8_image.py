"""Where an int8 network's maps begin and end: the convolution of a float32 image, and sums of a u8 map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import Ends, Written, ends_argument, load_levels, write_levels
from ofa_tvm.compiler.cpu.emit.int8_isa import LEVEL_OFFSET, WORD, bits, filled, fused, is_arm, narrowed, rounded, wide
from ofa_tvm.compiler.cpu.emit.int8_order import (
    NARROWED,
    Group,
    as_words,
    dealt_order,
    dot_of,
    factor_levels,
    has_bytes,
    has_starts,
    is_int8,
    pack_words,
    panel_words,
    word_count,
)
from ofa_tvm.compiler.cpu.emit.int8_tile import WordTile, as_factor, lane_in_all, shuffled, word_tile_fits
from ofa_tvm.compiler.cpu.emit.pool import PoolTile, pool_tiles
from ofa_tvm.compiler.cpu.emit.template import (
    Template,
    as_they_are,
    block_sizes,
    panel_widths,
    tile_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Buffer,
    Expr,
    PrimFunc,
    blocks,
    keep,
    kernel,
    load,
    number,
    spread,
    store,
    typed_arguments,
    vectors,
)
from ofa_tvm.compiler.cpu.emit.window import WindowTile
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.biased_sums import biased_ends
from ofa_tvm.graph.kernel import KernelSpec

TILE_CYCLES = 16.0
MAX_COLUMNS = 28


def emit_image(spec: KernelSpec, tile: WindowTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a full convolution of a float32 image, whose rows become levels in a ring: four a pixel."""
    size, outputs, lanes, k = spec.out_size, spec.out_channels, features.lanes, spec.kernel_size
    pixel_words = WORD // factor_levels(features)
    with kernel(spec.symbol) as finished:
        share, (image, inputs, zeros, weights, ends_rows, output, ring) = typed_arguments(
            features.cores,
            image=(FLOAT, spec.in_size**2 * spec.in_channels),
            inputs=(FLOAT, 2 * spec.in_channels * lanes),
            zeros=("int32", pixel_words),
            weights=("int32", panel_words(WORD * k * k, features) * outputs),
            ends=ends_argument(spec, outputs),
            output=("int32", size**2 * outputs // WORD),
            ring=("int32", image_ring_words(spec, features)),
        )
        ends = Ends(ends_rows, outputs, spec.activation, dot_of(features), share.task)
        rows = _ImageRows(spec, features, image, inputs, zeros, ring)

        def one_row(y: Expr) -> None:
            def panel(channel: Expr, width: int) -> None:
                def one_tile(start: Expr, count: int) -> None:
                    own_ends = ends.of_tile(start)
                    panel_at = channel * panel_words(WORD * k * k, features)
                    registers = WordTile(
                        count, width, features, k * k * spec.in_channels, (weights, panel_at, own_ends.task)
                    )
                    with T.serial(0, k) as ky:
                        first = keep(rows.at(y * spec.stride - spec.padding + ky, start * spec.stride - spec.padding))
                        word = rows.words(first, ((count - 1) * spec.stride + k) * pixel_words)
                        for kx, part in product(range(k), range(pixel_words)):
                            tap = (ky * k + kx) * pixel_words + part + has_starts(features)
                            at = panel_at + tap * width
                            row = [keep(load(weights, at + v.offset, v.lanes)) for v in registers.vectors]
                            for pixel in range(count):
                                levels = word((pixel * spec.stride + kx) * pixel_words + part)
                                for vector, weight in zip(registers.vectors, row, strict=True):
                                    own = levels(vector.lanes)
                                    registers.add_dot(pixel, vector.offset, vector.lanes, own, weight)

                    def value_of(pixel: int, offset: int, live: int) -> Expr:
                        return own_ends.levels(registers.floats(pixel, offset, live), channel + offset, live, pixel)

                    def place(pixel: int, offset: int) -> Expr:
                        return ((y * size + start + pixel) * outputs + channel + offset) // WORD

                    write_levels(value_of, count, width, features, Written(output, place))

                blocks(size, tile.columns, one_tile)

            blocks(outputs, tile.channels, panel)

        rows.pad_sides()
        first_row = tirx.floordiv(share.task * size, share.tasks)
        with T.serial(first_row, tirx.floordiv((share.task + 1) * size, share.tasks)) as y:
            top = keep(y * spec.stride - spec.padding)
            known = tirx.Select(y == first_row, number(0), number(max(0, k - spec.stride)))
            with T.serial(top + known, top + k) as row:
                rows.fill(row)
            one_row(y)
    return finished()


def image_ring_words(spec: KernelSpec, features: CpuFeatures) -> int:
    """Words of the ring of an image's rows."""
    return _slots(spec) * _columns(spec) * WORD // factor_levels(features)


def _slots(spec: KernelSpec) -> int:
    return 1 << (spec.kernel_size - 1).bit_length()


def _columns(spec: KernelSpec) -> int:
    return spec.in_size + 2 * (spec.kernel_size // 2)


@dataclass(frozen=True)
class _ImageRows:
    """Rows of an image as words (one, or two) of the levels of a pixel's channels, padded by zero points.

    They are as ``as_factor`` gives them.
    """

    spec: KernelSpec
    features: CpuFeatures
    image: Buffer
    inputs: Buffer
    zeros: Buffer
    ring: Buffer

    @property
    def _pixel_words(self) -> int:
        return WORD // factor_levels(self.features)

    def at(self, row: Expr, column: Expr) -> Expr:
        """The first word of a pixel; rows and columns before the map are negative."""
        slots = _slots(self.spec)
        slot = tirx.floormod(row + slots, slots)
        return (slot * _columns(self.spec) + column + self.spec.kernel_size // 2) * self._pixel_words

    def words(self, first: Expr, count: int) -> Callable[[int], Callable[[int], Expr]]:
        """Any of ``count`` words, in as many lanes as wanted; NEON multiplies by any lane of several."""
        if not is_arm(dot_of(self.features)):
            return lambda at: partial(spread, keep(load(self.ring, first + at)))
        pieces = vectors(count, WORD)
        loaded = [keep(load(self.ring, first + piece.offset, piece.lanes)) for piece in pieces]

        def word(at: int) -> Callable[[int], Expr]:
            number_of = next(n for n, piece in enumerate(pieces) if at < piece.offset + piece.lanes)
            own, piece = loaded[number_of], pieces[number_of]
            if piece.lanes == 1:
                return partial(spread, own)
            return lambda lanes: lane_in_all(own, at - piece.offset, lanes)

        return word

    def _pad(self, at: Expr) -> None:
        store(self.ring, load(self.zeros, number(0), self._pixel_words), at, self._pixel_words)

    def pad_sides(self) -> None:
        """Fill the columns beside the map."""
        side, columns = self.spec.kernel_size // 2, _columns(self.spec)
        for slot in range(_slots(self.spec)):
            for column in (*range(side), *range(columns - side, columns)):
                self._pad(number((slot * columns + column) * self._pixel_words))

    def fill(self, row: Expr) -> None:
        """Write a row, which may lie beside the map."""
        is_inside = tirx.all(row >= 0, row < self.spec.in_size)
        with T.serial(0, tirx.Select(is_inside, number(1), number(0))):
            self._fill_inside(row)
        with T.serial(0, tirx.Select(is_inside, number(0), number(self.spec.in_size))) as column:
            self._pad(self.at(row, column))

    def _fill_inside(self, row: Expr) -> None:
        size, channels, lanes = self.spec.in_size, self.spec.in_channels, self.features.lanes
        while lanes > size:
            lanes //= 2
        with T.serial(0, -(-size // lanes)) as block:
            column = keep(tirx.min(block * lanes, number(size - lanes)))  # the last block begins earlier
            levels = []
            for vector in range(channels):
                value = load(self.image, (row * size + column) * channels + vector * lanes, lanes)
                scale = load(self.inputs, number(vector * lanes), lanes)
                plus = load(self.inputs, number(channels * self.features.lanes + vector * lanes), lanes)
                levels.append(keep(rounded(fused(value, scale, plus, lanes), lanes, dot_of(self.features))))
            levels += [filled(0, "int32", lanes)] * (NARROWED - channels)
            as_bytes = shuffled(narrowed(levels, lanes, dot_of(self.features)), self._pixels(lanes))
            count = self._pixel_words * lanes
            if not has_bytes(self.features):
                as_bytes = bits(as_bytes, wide("uint8", WORD * lanes)).astype(wide("uint16", WORD * lanes))
            words = as_factor(bits(as_bytes, wide("int32", count)), count, self.features)
            store(self.ring, words, self.at(row, column), count)

    def _pixels(self, lanes: int) -> list[int]:
        """Where narrowed vectors hold the bytes of each pixel's word."""
        channels, last = self.spec.in_channels, WORD * (NARROWED - 1)

        def place(number_of: int) -> int:
            vector, lane = divmod(number_of, lanes)
            return 16 * (lane // WORD) + WORD * vector + lane % WORD

        return [
            place(pixel * channels + byte) if byte < channels else last
            for pixel in range(lanes)
            for byte in range(WORD)
        ]


def image_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, WindowTile]]:
    """Tiles that fit the registers, with their expected cycles of a row."""
    taps = spec.kernel_size**2 * WORD // factor_levels(features)
    for channels in panel_widths(spec.out_channels, features):
        for columns in range(1, min(MAX_COLUMNS, spec.out_size) + 1):
            if not word_tile_fits(columns, channels, features):
                break
            cycles = sum(
                times * many * (taps * tile_cycles(count, width, features.lanes) + TILE_CYCLES)
                for count, times in block_sizes(spec.out_size, columns)
                for width, many in block_sizes(spec.out_channels, channels)
            )
            yield cycles, WindowTile(columns, channels)


def pack_image(spec: KernelSpec, tile: WindowTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """Inputs' ends repeated for the lanes, zero points of a pixel; weights in panels of words and ends, dealt."""
    inputs, zeros, weights, ends = constants
    order = dealt_order(spec.out_channels, features.lanes, tile.channels)
    missing = WORD - spec.in_channels
    words = np.pad(weights, ((0, 0), (0, 0), (0, missing), (0, 0))).reshape(-1, spec.out_channels)
    repeated = np.tile(inputs, features.lanes).astype(np.float32)
    depth = spec.kernel_size**2 * spec.in_channels
    packed = pack_words(words[:, order], features, tile.channels, depth=depth)
    factors = zeros ^ LEVEL_OFFSET if has_starts(features) else zeros
    zero_words = as_words(np.pad(factors, (0, missing)).reshape(-1, factor_levels(features)))
    return [repeated, zero_words, packed, biased_ends(ends[:, order], depth)]


def _is_image(spec: KernelSpec) -> bool:
    plain = not (spec.scaled or spec.residual or spec.pooled) and spec.batch == 1 and spec.in_channels <= WORD
    return spec.dtype == "int8" and plain and spec.reads_image and spec.out_channels % WORD == 0


INT8_IMAGE = Template(
    WindowTile,
    _is_image,
    image_tiles,
    emit_image,
    pack_image,
    lambda spec, tile, features: image_ring_words(spec, features),
    lambda spec, tile, features: tile.channels % WORD == 0,
)


def emit_pool(spec: KernelSpec, tile: PoolTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` that adds up the levels of each channel; float32 is exact as far as maps reach."""
    channels = spec.in_channels
    with kernel(spec.symbol) as finished:
        share, (input_map, output) = typed_arguments(
            features.cores, input_map=("int32", spec.in_size**2 * word_count(channels)), output=(FLOAT, channels)
        )

        def some_channels(channel: Expr, width: int) -> None:
            registers = WordTile(1, width, features)
            with T.serial(0, spec.in_size**2) as pixel:
                for vector in registers.vectors:
                    at = (pixel * channels + channel + vector.offset) // WORD
                    levels = load_levels(input_map, at, Group(0, vector.lanes, 1), 0)
                    registers.add(0, vector.offset, vector.lanes, levels)
            for vector in registers.vectors:
                store(output, registers.floats(0, vector.offset, vector.lanes), channel + vector.offset, vector.lanes)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


INT8_POOL = Template(
    PoolTile,
    lambda spec: is_int8(spec, "pool"),
    pool_tiles,
    emit_pool,
    as_they_are,
    suits=lambda spec, tile, features: tile.channels % WORD == 0,
)
