"""Windows of a map without a padded copy, and depthwise convolutions.

Taps above and below the map are left out by the bounds of the loop over window rows; taps beside it because tiles at
the border are unrolled on their own, each with the taps that it has. On small maps that is also less work: a 7x7
window has only 57 % of its taps on a 7x7 map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ofa_tvm.compiler.cpu.emit.activations import activated
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import (
    FMA_LATENCY_CYCLES,
    PER_CYCLE,
    Array,
    Template,
    arithmetic,
    as_they_are,
    block_sizes,
    crowding,
    is_float,
    panel_widths,
    shared_blocks,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Accumulators,
    Buffer,
    Expr,
    Frame,
    PrimFunc,
    Vector,
    add_to_sums,
    blocks,
    clear,
    keep,
    kernel,
    load,
    number,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.kernel import KernelSpec

TILE_CYCLES = 8.0
"""Cycles between two register tiles: starting, activation, writing."""
MAX_COLUMNS = 28


@dataclass(frozen=True)
class WindowTile:
    """Register tile of a windowed convolution: ``columns`` pixels of one row times ``channels``."""

    columns: int
    channels: int


@dataclass(frozen=True)
class Rows:
    """Rows of a map as a depthwise convolution reads them: one by one, or two as words of a pair of bfloat16.

    With words, an instruction multiplies and adds both rows of a window's column. A window that begins at an odd row
    has other words of weights than one that begins at an even row; where a row has no tap, they are zero.

    Args:
        spec: the convolution.
        together: rows of a group, 1 or 2.
    """

    spec: KernelSpec
    together: int = 1

    @property
    def groups(self) -> int:
        """Groups of the map; the last one may lack a row, which is zero."""
        return -(-self.spec.in_size // self.together)

    @property
    def met(self) -> int:
        """Groups that a window meets at most."""
        return -(-(self.spec.kernel_size + self.together - 1) // self.together)

    @property
    def words(self) -> int:
        """Words of a window's weights, of each channel."""
        return self.together * self.met * self.spec.kernel_size

    @property
    def _before(self) -> int:
        """Rows before the map, whole groups, in which a window may begin."""
        return -(-self.spec.padding // self.together) * self.together

    def first(self, y: Expr) -> Expr:
        """The first group of the window at output row ``y``."""
        top = y * self.spec.stride - self.spec.padding
        if self.together == 1:
            return top
        return tirx.floordiv(top + self._before, self.together) - self._before // self.together

    def phase(self, y: Expr) -> Expr | int:
        """The row of its first group at which the window begins."""
        top = y * self.spec.stride - self.spec.padding
        return 0 if self.together == 1 else tirx.floormod(top + self._before, self.together)

    def loop(self, y: Expr) -> Frame:
        """A loop over those of the groups of the window, from its first, that lie on the map."""
        first = self.first(y)
        return T.serial(tirx.max(number(0), 0 - first), tirx.min(number(self.met), self.groups - first))

    def pack(self, window: Array) -> Array:
        """A window (k, k, channels) as (phase, group, column, channel, row)."""
        k, _, channels = window.shape
        words = np.zeros((self.together, self.met, k, channels, self.together), window.dtype)
        for phase in range(self.together):
            for tap in range(k):
                group, row = divmod(phase + tap, self.together)
                words[phase, group, :, :, row] = window[tap]
        return words


def tiles_of_row(spec: KernelSpec, columns: int, tile: Callable[[int | Expr, int], None]) -> None:
    """Call ``tile(first column, columns)`` along an output row.

    Tiles whose window lies on the map share one loop; a tile at the border gets its column as a plain number.
    """
    starts = range(0, spec.out_size, columns)
    inside = [start for start in starts if _is_inside(spec, start, columns)]
    before = [start for start in starts if not inside or start < inside[0]]
    after = [start for start in starts if inside and start > inside[-1]]
    for start in before:
        tile(start, min(columns, spec.out_size - start))
    if inside:
        with T.serial(0, len(inside)) as step:
            tile(inside[0] + step * columns, columns)
    for start in after:
        tile(start, min(columns, spec.out_size - start))


def _is_inside(spec: KernelSpec, start: int, columns: int) -> bool:
    first = start * spec.stride - spec.padding
    last = (start + columns - 1) * spec.stride - spec.padding + spec.kernel_size - 1
    return first >= 0 and last < spec.in_size and start + columns <= spec.out_size


def window_rows(spec: KernelSpec, y: Expr) -> Frame:
    """A loop over those rows of the window at output row ``y`` that lie on the map."""
    top = y * spec.stride - spec.padding
    return T.serial(tirx.max(number(0), 0 - top), tirx.min(number(spec.kernel_size), spec.in_size - top))


def taps(spec: KernelSpec, start: int | Expr, count: int, column: int) -> list[tuple[int, int | Expr]]:
    """(pixel of the tile, input column) of those taps of a window's column that lie on the map."""
    met = [(pixel, (start + pixel) * spec.stride - spec.padding + column) for pixel in range(count)]
    return [(pixel, x) for pixel, x in met if not isinstance(x, int) or 0 <= x < spec.in_size]


def columns_read(spec: KernelSpec, start: int | Expr, count: int) -> list[tuple[int | Expr, list[tuple[int, int]]]]:
    """(input column, its (pixel of the tile, column of the window)) along the inputs of a tile, on the map only."""
    columns: list[tuple[int | Expr, list[tuple[int, int]]]] = []
    for offset in range((count - 1) * spec.stride + spec.kernel_size):
        x = start * spec.stride - spec.padding + offset
        if isinstance(x, int) and not 0 <= x < spec.in_size:
            continue
        places = [(pixel, offset - pixel * spec.stride) for pixel in range(count)]
        met = [(pixel, column) for pixel, column in places if 0 <= column < spec.kernel_size]
        if met:
            columns.append((x, met))
    return columns


def depthwise_row(
    rows: Rows,
    y: Expr,
    columns: int,
    channel: Expr,
    width: int,
    lanes: int,
    input_map: Buffer,
    source_at: Callable[[Expr, int | Expr], Expr],
    weights: Buffer,
    bias: Buffer | None,
    finish: Callable[[int | Expr, Vector, list[Expr]], None],
) -> None:
    """One output row of a depthwise convolution, ``width`` channels.

    A row of weights stays in registers while the inputs pass by, each loaded once.

    Args:
        rows: how the convolution reads its map.
        y: output row.
        columns: pixels of a register tile.
        channel: first channel.
        width: channels.
        lanes: of a vector.
        input_map: input map, or rows of it; words where rows are together.
        source_at: where the channels of (group of rows, input column) begin.
        weights: (window rows, window columns, channels), flat, or words of ``Rows.pack``.
        bias: by channel.
        finish: gets the first column, and the activated vectors of the tile's pixels.
    """
    spec, computed = rows.spec, arithmetic(rows.spec)

    def tile(start: int | Expr, count: int) -> None:
        registers = Accumulators(count, width, lanes, computed)
        registers.start(bias, channel)
        with rows.loop(y) as ky:
            row = rows.first(y) + ky
            for vector in registers.vectors:
                own = rows.phase(y) * rows.met + ky
                at = own * (spec.kernel_size * spec.out_channels) + channel + vector.offset
                taps_of_row = [
                    keep(load(weights, at + column * spec.out_channels, vector.lanes, computed))
                    for column in range(spec.kernel_size)
                ]
                for x, met in columns_read(spec, start, count):
                    value = keep(load(input_map, source_at(row, x) + vector.offset, vector.lanes, computed))
                    for pixel, column in met:
                        if rows.together == 1:
                            registers.add(pixel, vector, value * taps_of_row[column])
                        else:
                            registers.add_products(pixel, vector, taps_of_row[column], value)
        for vector in registers.vectors:
            values = [activated(registers.value(p, vector), spec.activation, vector.lanes) for p in range(count)]
            finish(start, vector, values)

    tiles_of_row(spec, columns, tile)


def write_pixels(
    spec: KernelSpec, y: Expr, at: Expr, output: Buffer, sums: Buffer | None
) -> Callable[[int | Expr, Vector, list[Expr]], None]:
    """What finishes a depthwise tile: writes its pixels of row ``y``, channels from ``at``, and adds them up."""

    def finish(start: int | Expr, vector: Vector, values: list[Expr]) -> None:
        held = [keep(value) for value in values]
        for pixel, value in enumerate(held):
            place = (y * spec.out_size + start + pixel) * spec.out_channels + at + vector.offset
            store(output, value, place, vector.lanes)
        if sums is not None:
            add_to_sums(sums, at + vector.offset, held, vector.lanes)

    return finish


def depthwise(spec: KernelSpec, tile: WindowTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a depthwise convolution."""
    channels = spec.out_channels
    window = spec.weight_types[0].dtype
    with kernel(spec.symbol) as finished:
        share, (input_map, weights, bias, output, sums) = typed_arguments(
            features.cores,
            input_map=(spec.input_type.dtype, spec.in_size**2 * channels),
            weights=(window, spec.kernel_size**2 * channels),
            bias=(window, channels) if spec.bias else None,
            output=(spec.map_type, spec.out_size**2 * channels),
            sums=(FLOAT, channels) if spec.pooled else None,
        )

        def one_row(y: Expr, channel: Expr, width: int) -> None:
            def source_at(row: Expr, x: int | Expr) -> Expr:
                return (row * spec.in_size + x) * channels + channel

            finish = write_pixels(spec, y, channel, output, sums)
            depthwise_row(
                Rows(spec), y, tile.columns, channel, width, features.lanes, input_map, source_at, weights, bias, finish
            )

        def all_rows(channel: Expr, width: int) -> None:
            if sums is not None:
                clear(sums, channel, width, features.lanes)
            with T.serial(0, spec.out_size) as y:
                one_row(y, channel, width)

        if spec.pooled or channels >= features.cores * tile.channels * 2:
            blocks(channels, tile.channels, all_rows, share)
        else:
            blocks(
                spec.out_size,
                1,
                lambda y, _: blocks(channels, tile.channels, lambda channel, width: one_row(y, channel, width)),
                share,
            )
    return finished()


def depthwise_cycles(rows: Rows, columns: int, channels: int, lanes: int) -> float:
    """Expected cycles of one output row, so many channels: multiply-adds or loads, whatever takes longer."""
    vectors, spec, k = -(-channels // lanes), rows.spec, rows.spec.kernel_size
    total = 0.0
    for count, times in block_sizes(spec.out_size, columns):
        loads = ((count - 1) * spec.stride + k + k) * vectors
        work = max(count * vectors * k, loads) / PER_CYCLE
        total += times * (rows.met * max(work, FMA_LATENCY_CYCLES) + TILE_CYCLES)
    return total


def several(columns: int, vectors: int, features: CpuFeatures) -> float:
    """How much slower a depthwise tile of several vectors is for being large, see ``crowding``."""
    return crowding(columns * vectors, features) if vectors > 1 else 1.0


def window_fits(spec: KernelSpec, columns: int, vectors: int, features: CpuFeatures) -> bool:
    """Whether a depthwise tile leaves room for a row of weights and an input."""
    return columns * vectors + spec.kernel_size + 1 <= features.registers


def _depthwise_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, WindowTile]]:
    for channels in panel_widths(spec.out_channels, features)[:4]:
        vectors = -(-channels // features.lanes)
        for columns in range(1, min(MAX_COLUMNS, spec.out_size) + 1):
            if not window_fits(spec, columns, vectors, features):
                break
            row = sum(
                many * depthwise_cycles(Rows(spec), columns, width, features.lanes)
                for width, many in block_sizes(spec.out_channels, channels)
            )
            uneven = shared_blocks(spec.out_channels, channels, features.cores)
            yield row * spec.out_size * uneven * several(columns, vectors, features), WindowTile(columns, channels)


DEPTHWISE = Template(
    WindowTile,
    lambda spec: spec.kind == "depthwise" and is_float(spec),
    _depthwise_tiles,
    depthwise,
    as_they_are,
)
