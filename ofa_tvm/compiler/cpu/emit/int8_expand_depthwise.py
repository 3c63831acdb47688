"""A 1x1 convolution and the depthwise convolution behind it as one int8 kernel; the expanded map stays in a ring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.expand_depthwise import ExpandTile
from ofa_tvm.compiler.cpu.emit.int8_depthwise import deep_cycles, deep_fits
from ofa_tvm.compiler.cpu.emit.int8_ends import Ends, TileSums, arm_end_cycles, close_sums, ends_argument
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, is_arm, rounded
from ofa_tvm.compiler.cpu.emit.int8_order import (
    dealt_order,
    dot_of,
    factor_levels,
    has_bytes,
    has_matrices,
    is_int8,
    pack_words,
    panel_words,
)
from ofa_tvm.compiler.cpu.emit.int8_tile import WordTile, multiply_words, product_cycles, widen, word_tile_fits
from ofa_tvm.compiler.cpu.emit.row_ring import DeepTile, Phases, RowRing, rows_as_words, words_of_zeros
from ofa_tvm.compiler.cpu.emit.template import Template, block_sizes, panel_widths, shared_blocks
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Expr,
    PrimFunc,
    blocks,
    clear,
    kernel,
    number,
    typed_arguments,
)
from ofa_tvm.graph.biased_sums import biased_ends
from ofa_tvm.graph.kernel import KernelSpec

TILE_CYCLES = 8.0
END_CYCLES = {"hard_swish": 9.0}
PLAIN_END_CYCLES = 5.0
RING_VECTORS = (2, 3, 4, 6, 1, 8)
"""Widths of a ring worth a trial."""
NEAR_CACHE_BYTES = 32768
BEYOND_NEAR_CACHE = 1.15
MAX_COLUMNS = 14


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, ExpandTile]]:
    """Tiles that fit the registers, with their expected cycles; ``pixels`` are columns of a group's rows each."""
    lanes, outputs = features.lanes, spec.out_channels
    for channels in sorted({min(outputs, lanes * count) for count in RING_VECTORS}):
        uneven = shared_blocks(outputs, channels, features.cores)
        ring_bytes = WORD * Phases(spec, features).ring_words(channels)
        far = BEYOND_NEAR_CACHE if ring_bytes > NEAR_CACHE_BYTES else 1.0
        expands = sorted(_expand_tiles(spec, channels, features))[:3]
        deeps = sorted(_deep_tiles(spec, channels, features))[:3]
        for expand, panel, pixels in expands:
            for depthwise, deep, columns in deeps:
                cycles = outputs / channels * (expand + depthwise) * far * uneven
                yield cycles, ExpandTile(channels, -pixels, panel, -columns, deep)


def _expand_tiles(spec: KernelSpec, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of a group of rows, panel, -columns)."""
    end, rows = END_CYCLES.get(spec.activation, PLAIN_END_CYCLES), factor_levels(features)
    for panel in panel_widths(channels, features):
        for columns in range(1, min(MAX_COLUMNS, spec.in_size) + 1):
            if not word_tile_fits(rows * columns, panel, features):
                break
            cycles = sum(
                times * many * (product_cycles(spec.in_channels, rows * count, width, features) + TILE_CYCLES)
                for count, times in block_sizes(spec.in_size, columns)
                for width, many in block_sizes(channels, panel)
            )
            vectors = sum(many * -(-width // features.lanes) for width, many in block_sizes(channels, panel))
            ends = vectors * spec.in_size * rows * end / 2
            if is_arm(dot_of(features)):
                ends = spec.in_size * arm_end_cycles(rows, channels, spec.activation, is_ring=True)
            yield cycles + ends, panel, -columns


def _deep_tiles(spec: KernelSpec, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of a group of rows, channels, -columns)."""
    lanes = features.lanes
    most = TileSums.channels(features) if spec.pooled else 4 * lanes
    widths = [width for width in (lanes, 2 * lanes, 4 * lanes) if width <= min(channels, most)]
    for deep in widths or [channels]:
        for columns in range(1, min(2 * MAX_COLUMNS, spec.out_size) + 1):
            if not deep_fits(spec, columns, deep, features):
                break
            parts = block_sizes(channels, deep)
            yield sum(many * deep_cycles(spec, columns, width, features) for width, many in parts), deep, -columns


def emit(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    lanes, size, depth, channels = features.lanes, spec.in_size, spec.in_channels, spec.out_channels
    phases, pixel_words = Phases(spec, features), depth // factor_levels(features)
    with kernel(spec.symbol) as finished:
        share, (input_map, expand_weights, expand_rows, zeros, weights, ends_rows, output, sums, ring) = (
            typed_arguments(
                features.cores,
                input_map=("int32", size**2 * depth // WORD),
                expand_weights=("int32", panel_words(depth, features) * channels),
                expand_ends=ends_argument(spec, channels),
                zeros=("int32", channels),
                weights=("int32", phases.words()),
                ends=ends_argument(spec, channels),
                output=("int32", spec.out_size**2 * channels // WORD),
                sums=(FLOAT, channels) if spec.pooled else None,
                ring=("int32", scratch_words(spec, tile, features)),
            )
        )
        wide_rows, of_matrices = _wide_rows(spec, tile, features), has_matrices(depth, features)
        expand_ends = Ends(expand_rows, channels, spec.activation, dot_of(features), share.task)
        ends, deep = (
            Ends(ends_rows, channels, spec.activation, dot_of(features), share.task),
            DeepTile(tile.columns, tile.deep),
        )

        def some_channels(block: Expr, block_width: int) -> None:
            if sums is not None:
                clear(sums, block, block_width, lanes)
            own = RowRing(spec, ring, block_width, features, zeros, block)

            def expand(group: Expr, live: int) -> None:
                words, first_pixel = input_map, group * phases.rows * size
                if not has_bytes(features):
                    at = first_pixel * depth // WORD
                    widen(input_map, at, live * size * depth, ring, number(wide_rows), features)
                    words, first_pixel = ring, number(wide_rows // pixel_words)

                def panel(channel: Expr, width: int) -> None:
                    def one_tile(column: Expr, count: int) -> None:
                        own_ends = expand_ends.of_tile(column)
                        at = (block + channel) * panel_words(depth, features)
                        own_starts = expand_weights, at, own_ends.task
                        registers = WordTile(live * count, width, features, depth, own_starts, of_matrices)

                        def pixel_at(pixel: int) -> Expr:
                            row, along = divmod(pixel, count)
                            return (first_pixel + row * size + column + along) * pixel_words

                        multiply_words(registers, words, pixel_at, expand_weights, at, depth)
                        for vector in registers.vectors:
                            first = channel + vector.offset
                            for along in range(count):
                                rows = []
                                for row in range(phases.rows):
                                    if row < live:
                                        total = registers.floats(row * count + along, vector.offset, vector.lanes)
                                        levels = own_ends.levels(
                                            total, block + first, vector.lanes, row * count + along
                                        )
                                        rows.append(rounded(levels, vector.lanes, dot_of(features)))
                                    else:
                                        rows.append(own.zero(first, vector.lanes))
                                data = rows_as_words(rows, vector.lanes, features)
                                own.write(data, group, column + along, first, vector.lanes)

                    blocks(size, tile.pixels, one_tile)

                blocks(block_width, tile.panel, panel)

            own.run(expand, lambda group, phase: own.depthwise(group, phase, deep, weights, ends, output, sums))
            if sums is not None:
                close_sums(sums, block, block_width, lanes)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


def scratch_words(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> int:
    """The ring, and where dot products do not take a map's words, a group's input rows behind it."""
    phases = Phases(spec, features)
    if has_bytes(features):
        return phases.ring_words(tile.channels)
    return _wide_rows(spec, tile, features) + phases.rows * spec.in_size * spec.in_channels // phases.rows


def _wide_rows(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> int:
    """Where a group's input rows begin in scratch memory: at a whole pixel."""
    pixel_words = spec.in_channels // factor_levels(features)
    return -(-Phases(spec, features).ring_words(tile.channels) // pixel_words) * pixel_words


def pack(spec: KernelSpec, tile: ExpandTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """All with channels dealt: weights in panels of words, ends, zero points, words of rows' weights, ends."""
    expand, expand_ends, zeros, window, ends = constants
    order = dealt_order(spec.out_channels, features.lanes, tile.channels, tile.deep)
    of_matrices = has_matrices(spec.in_channels, features)
    return [
        pack_words(expand[:, order], features, tile.channels, tile.panel, of_matrices=of_matrices),
        biased_ends(expand_ends[:, order], spec.in_channels),
        words_of_zeros(zeros[order], features),
        Phases(spec, features).pack(window[:, :, order]),
        biased_ends(ends[:, order], spec.kernel_size**2),
    ]


def suits(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> bool:
    """Whether a tile is of whole words, and narrow enough where sums are wanted."""
    is_whole = not any(size % WORD for size in (tile.channels, tile.panel, tile.deep))
    return is_whole and (not spec.pooled or tile.deep <= TileSums.channels(features))


INT8_EXPAND_DEPTHWISE = Template(
    ExpandTile,
    lambda spec: is_int8(spec, "expand_depthwise"),
    tiles,
    emit,
    pack,
    scratch_words,
    suits,
)
