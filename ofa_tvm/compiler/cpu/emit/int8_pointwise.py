"""1x1 convolutions of u8 maps with s8 weights: a matrix product in register tiles, fused to its ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import (
    Ends,
    TileSums,
    Written,
    arm_end_cycles,
    close_sums,
    ends_argument,
    load_levels,
    write_levels,
)
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, bits, fused, is_arm, unknown_zero, wide
from ofa_tvm.compiler.cpu.emit.int8_order import (
    NARROWED,
    dealt_order,
    dot_of,
    factor_levels,
    group_of,
    has_bytes,
    has_matrices,
    is_int8,
    pack_words,
    panel_words,
)
from ofa_tvm.compiler.cpu.emit.int8_tile import WordTile, multiply_words, product_cycles, widen, word_tile_fits
from ofa_tvm.compiler.cpu.emit.pointwise import PointwiseTile
from ofa_tvm.compiler.cpu.emit.pointwise import suits as float_suits
from ofa_tvm.compiler.cpu.emit.template import Template, block_sizes, panel_widths, shared_blocks
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Buffer,
    Expr,
    PrimFunc,
    blocks,
    clear,
    keep,
    kernel,
    load,
    number,
    store,
    typed_arguments,
    vectors,
)
from ofa_tvm.graph.biased_sums import biased_ends
from ofa_tvm.graph.kernel import KernelSpec

MAX_PIXELS = 28
TILE_CYCLES = 8.0
END_CYCLES = {"hard_swish": 8.0}
"""Cycles of a vector's way from sums to bytes."""
PLAIN_END_CYCLES = 4.0
SMALL_PANEL_BYTES = 16384
WIDE_BYTES = 16384
"""Of levels that were made wider, beside a panel of weights in the nearest cache."""


def accepts(spec: KernelSpec) -> bool:
    """1x1 convolutions of stride 1, one image; a residual only where no activation follows."""
    is_pointwise = is_int8(spec, "conv") and spec.kernel_size == 1 and spec.stride == 1
    return is_pointwise and (not spec.residual or spec.activation == "none")


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, PointwiseTile]]:
    """Tiles that fit the registers, with their expected cycles; a pooled kernel's are one vector wide.

    Where dot products do not take a map's words, tiles of a few pixels run within panels of channels, always.
    """
    area, outputs = spec.in_size**2, spec.out_channels
    most = TileSums.channels(features) if spec.pooled else outputs
    widths = panel_widths(outputs, features)
    for channels in [width for width in widths if width <= most] or widths[:1]:
        for pixels in range(1, min(MAX_PIXELS, area) + 1):
            if not word_tile_fits(pixels, channels, features):
                break
            cycles = sum(
                times * many * _tile_cycles(spec, count, width, features)
                for count, times in block_sizes(area, pixels)
                for width, many in block_sizes(outputs, channels)
            )
            if not spec.pooled:
                yield cycles * shared_blocks(area, pixels, features.cores), PointwiseTile(pixels, channels, "pixels")
            if spec.pooled or (not spec.scaled and has_bytes(features)):
                uneven = shared_blocks(outputs, channels, features.cores)
                order = 0.98 if spec.in_channels * channels > SMALL_PANEL_BYTES else 1.02
                yield cycles * uneven * order, PointwiseTile(pixels, channels, "channels")


def _tile_cycles(spec: KernelSpec, pixels: int, width: int, features: CpuFeatures) -> float:
    narrow = -(-width // features.lanes)
    products = product_cycles(spec.in_channels, pixels, width, features, spec.scaled)
    if is_arm(dot_of(features)):
        return products + TILE_CYCLES + arm_end_cycles(pixels, width, spec.activation, spec.pooled)
    # Packs take four vectors of sums: pixels that do not fill them cost as if they did.
    ends = -(-pixels * narrow // NARROWED) * NARROWED * END_CYCLES.get(spec.activation, PLAIN_END_CYCLES) / 2
    return products + TILE_CYCLES + ends


def emit(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    pixels, depth, outputs = spec.in_size**2, spec.in_channels, spec.out_channels
    pixel_words, output_words = depth // factor_levels(features), outputs // WORD
    has_scratch = spec.scaled or not has_bytes(features)
    with kernel(spec.symbol) as finished:
        share, (input_map, scales, gating, weights, ends_rows, residual, output, sums, scratch) = typed_arguments(
            features.cores,
            input_map=("int32", pixels * depth // WORD),
            scales=(FLOAT, depth) if spec.scaled else None,
            gating=(FLOAT, 3 * depth) if spec.scaled else None,
            weights=("int32", panel_words(depth, features) * outputs),
            ends=ends_argument(spec, outputs),
            residual=("int32", pixels * output_words) if spec.residual else None,
            output=None if spec.pooled else ("int32", pixels * output_words),
            sums=(FLOAT, outputs) if spec.pooled else None,
            scratch=("int32", scratch_words(spec, tile, features)) if has_scratch else None,
        )
        ends = Ends(ends_rows, outputs, spec.activation, dot_of(features), share.task)
        gate = _Gate(input_map, scales, gating, scratch, spec, tile, features, share.task)
        product = _Product(spec, features, weights, ends, residual, output, sums)

        def all_panels(pixel: Expr, count: int) -> None:
            words, first = input_map, pixel
            if scales is not None:
                gate.write(pixel, count)
                words, first = scratch, number(0)
            blocks(
                outputs,
                tile.channels,
                lambda channel, width: product.tile((words, first), pixel, count, (channel, width)),
            )

        def all_pixels(channel: Expr, width: int) -> None:
            product.panel((input_map, number(0)), number(0), (pixels, tile.pixels), (channel, width))

        def wide_panels(pixel: Expr, count: int) -> None:
            words, first = input_map, pixel * depth // WORD
            if scales is not None:
                blocks(count, tile.pixels, lambda near, some: gate.write(pixel + near, some, near))
                words, first = scratch, number(0)
            at = _wide_words(spec, tile, features)
            widen(words, first, count * depth, scratch, number(at), features)
            near = scratch, number(at // pixel_words)
            blocks(
                outputs,
                tile.channels,
                lambda channel, width: product.panel(near, pixel, (count, tile.pixels), (channel, width)),
                share if spec.pooled else None,
            )

        if scales is not None and keeps_factors(features):
            gate.write_factors()
        if not has_bytes(features):
            blocks(pixels, _near_pixels(spec, tile, features), wide_panels, None if spec.pooled else share)
        elif tile.outer == "pixels":
            blocks(pixels, tile.pixels, all_panels, share)
        else:
            blocks(outputs, tile.channels, all_pixels, share)
    return finished()


Channels = tuple[Expr, int]
"""The first of some channels, and how many."""


@dataclass(frozen=True)
class _Product:
    """Pixels times weights, and what follows."""

    spec: KernelSpec
    features: CpuFeatures
    weights: Buffer
    ends: Ends
    residual: Buffer | None
    output: Buffer | None
    sums: Buffer | None

    def tile(self, words: tuple[Buffer, Expr], pixel: Expr, count: int, channels: Channels) -> None:
        """A register tile.

        Args:
            words: where its levels are, and the first pixel there.
            pixel: the first on the map.
            count: pixels.
            channels: of the output.
        """
        spec, features, (channel, width), (buffer, first) = self.spec, self.features, channels, words
        depth, pixel_words = spec.in_channels, spec.in_channels // factor_levels(features)
        at = channel * panel_words(depth, features)
        of_matrices = has_matrices(depth, features)
        registers = WordTile(count, width, features, depth, (self.weights, at, self.ends.task), of_matrices)
        are_factors = spec.scaled and has_bytes(features)
        multiply_words(registers, buffer, lambda p: (first + p) * pixel_words, self.weights, at, depth, are_factors)

        def place(p: int, offset: int) -> Expr:
            return ((pixel + p) * spec.out_channels + channel + offset) // WORD

        def value(p: int, offset: int, live: int) -> Expr:
            added = None
            if self.residual is not None:
                group, vector = group_of(width, features.lanes, offset)
                added = load_levels(self.residual, place(p, group.offset), group, vector)
            return self.ends.levels(registers.floats(p, offset, live), channel + offset, live, p, added)

        written = None if self.output is None else Written(self.output, place)
        sums = None if self.sums is None else TileSums(self.sums, channel, features)
        write_levels(value, count, width, features, written, sums)

    def panel(self, words: tuple[Buffer, Expr], pixel: Expr, pixels: tuple[int, int], channels: Channels) -> None:
        """All tiles of some channels and pixels: how many, and how many in a tile."""
        (count, most), (channel, width), (buffer, first) = pixels, channels, words
        if self.sums is not None:
            clear(self.sums, channel, width, self.features.lanes)
        blocks(count, most, lambda near, some: self.tile((buffer, first + near), pixel + near, some, channels))
        if self.sums is not None:
            close_sums(self.sums, channel, width, self.features.lanes)


@dataclass(frozen=True)
class _Gate:
    """Levels of a map times the scales of their channels."""

    input_map: Buffer
    scales: Buffer
    gating: Buffer
    scratch: Buffer
    spec: KernelSpec
    tile: PointwiseTile
    features: CpuFeatures
    task: Expr

    @property
    def depth(self) -> int:
        """Channels."""
        return self.spec.in_channels

    @property
    def _factors_at(self) -> int:
        """Where factors are kept in scratch memory, behind the levels; what is added follows them."""
        return self.tile.pixels * self.depth // WORD

    def write_factors(self) -> None:
        """Keep what does not depend on pixels."""
        lanes = self.features.lanes

        def some(channel: Expr, width: int) -> None:
            for vector in vectors(width, lanes):
                for row, value in enumerate(self._factor(channel + vector.offset, vector.lanes)):
                    at = self._factors_at + row * self.depth + channel + vector.offset
                    store(self.scratch, bits(value, wide("int32", vector.lanes)), at, vector.lanes)

        blocks(self.depth, lanes, some)

    def _kept(self, row: int, channel: Expr, lanes: int) -> Expr:
        return bits(load(self.scratch, self._factors_at + row * self.depth + channel, lanes), wide(FLOAT, lanes))

    def write(self, pixel: Expr, count: int, to: Expr = 0) -> None:
        """Write some pixels to scratch memory, from its pixel ``to`` on."""
        # What is narrowed at once is a vector, and on ARM one of bytes.
        width = WORD * WORD if is_arm(dot_of(self.features)) else self.features.lanes
        blocks(self.depth, width, lambda channel, width: self._write(pixel, count, to, (channel, width)))

    def _write(self, pixel: Expr, count: int, to: Expr, some: tuple[Expr, int]) -> None:
        channel, width = some
        factors: dict[int, tuple[Expr, Expr]] = {}

        def value(p: int, offset: int, live: int) -> Expr:
            at = channel + offset
            if offset not in factors:
                factors[offset] = self._factors(at, live)
            factor, plus = factors[offset]
            if keeps_factors(self.features):
                plus = self._kept(1, at + unknown_zero(self.task, p), live)
            group, vector = group_of(width, self.features.lanes, offset)
            word = ((pixel + p) * self.depth + channel + group.offset) // WORD
            return fused(load_levels(self.input_map, word, group, vector), factor, plus, live)

        def place(p: int, offset: int) -> Expr:
            return ((to + p) * self.depth + channel + offset) // WORD

        are_factors = has_bytes(self.features)
        write_levels(value, count, width, self.features, Written(self.scratch, place, are_factors))

    def _factors(self, at: Expr, lanes: int) -> tuple[Expr, Expr]:
        if keeps_factors(self.features):
            return keep(self._kept(0, at, lanes)), None
        return self._factor(at, lanes)

    def _factor(self, at: Expr, lanes: int) -> tuple[Expr, Expr]:
        """By what levels are multiplied, and what is added."""
        scale = keep(load(self.scales, at, lanes))
        ratio, negative, zero = (load(self.gating, row * self.depth + at, lanes) for row in range(3))
        return keep(scale * ratio), keep(fused(scale, negative, zero, lanes))


def pack(spec: KernelSpec, tile: PointwiseTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """Weights in panels of words and ends, both with channels dealt."""
    *gating, weights, ends = constants
    order = dealt_order(spec.out_channels, features.lanes, tile.channels)
    return [
        *gating,
        pack_words(weights[:, order], features, tile.channels, of_matrices=has_matrices(spec.in_channels, features)),
        biased_ends(ends[:, order], spec.in_channels),
    ]


def keeps_factors(features: CpuFeatures) -> bool:
    """Whether a gate reads factors: where vectors have few lanes, making them costs too much for each tile."""
    return is_arm(dot_of(features))


def scratch_words(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> int:
    """The scaled levels of one tile; where dot products do not take a map's words, wider levels behind them.

    On ARM also the factors of channels.
    """
    if has_bytes(features):
        factors = 2 * spec.in_channels if keeps_factors(features) else 0
        return tile.pixels * spec.in_channels // WORD + factors if spec.scaled else 0
    near = _near_pixels(spec, tile, features)
    return _wide_words(spec, tile, features) + near * spec.in_channels // factor_levels(features)


def _near_pixels(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> int:
    """Pixels whose wider levels are near at a time: whole tiles, some for each thread; all where sums are wanted."""
    area = spec.in_size**2
    if spec.pooled:
        return area
    tile_bytes = tile.pixels * spec.in_channels * WORD // factor_levels(features)
    tiles_near = min(WIDE_BYTES // tile_bytes, area // (tile.pixels * features.cores))
    return min(area, tile.pixels * max(1, tiles_near))


def _wide_words(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> int:
    """Where wider levels begin in scratch memory: at a whole pixel."""
    near = _near_pixels(spec, tile, features) if spec.scaled else 0
    pixel_words = spec.in_channels // factor_levels(features)
    return -(-near * spec.in_channels // WORD // pixel_words) * pixel_words


def suits(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> bool:
    """Whether a tile is of whole words, and narrow enough where sums are wanted."""
    is_narrow = not spec.pooled or tile.channels <= TileSums.channels(features)
    return is_narrow and tile.channels % WORD == 0 and float_suits(spec, tile, features)


INT8_POINTWISE = Template(PointwiseTile, accepts, tiles, emit, pack, scratch_words, suits)
