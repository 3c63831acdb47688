"""Depthwise and full convolutions with a window, without a padded copy.

Taps above and below the map are left out by the bounds of the loop over window rows; taps beside it because tiles at
the border are unrolled on their own, each with the taps that it has. On small maps that is also less work: a 7x7
window has only 57 % of its taps on a 7x7 map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import (
    FMA_LATENCY_CYCLES,
    PER_CYCLE,
    Array,
    Template,
    as_they_are,
    block_sizes,
    is_float,
    panel_widths,
    shared_blocks,
    tile_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    Accumulators,
    Buffer,
    Expr,
    Frame,
    PrimFunc,
    Share,
    Vector,
    activated,
    add_to_sums,
    arguments,
    blocks,
    clear,
    keep,
    kernel,
    load,
    number,
    pack_panels,
    spread,
    store,
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
    spec: KernelSpec,
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
        spec: the convolution.
        y: output row.
        columns: pixels of a register tile.
        channel: first channel.
        width: channels.
        lanes: of a vector.
        input_map: input map, or rows of it.
        source_at: where the channels of (input row, input column) begin.
        weights: (window rows, window columns, channels), flat.
        bias: by channel.
        finish: gets the first column, and the activated vectors of the tile's pixels.
    """

    def tile(start: int | Expr, count: int) -> None:
        registers = Accumulators(count, width, lanes)
        registers.start(bias, channel)
        with window_rows(spec, y) as ky:
            row = y * spec.stride - spec.padding + ky
            for vector in registers.vectors:
                at = ky * (spec.kernel_size * spec.out_channels) + channel + vector.offset
                taps_of_row = [
                    keep(load(weights, at + column * spec.out_channels, vector.lanes))
                    for column in range(spec.kernel_size)
                ]
                for x, met in columns_read(spec, start, count):
                    value = keep(load(input_map, source_at(row, x) + vector.offset, vector.lanes))
                    for pixel, column in met:
                        registers.add(pixel, vector, value * taps_of_row[column])
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
    with kernel(spec.symbol) as finished:
        share, (input_map, weights, bias, output, sums) = arguments(
            features.cores,
            input_map=spec.in_size**2 * channels,
            weights=spec.kernel_size**2 * channels,
            bias=channels if spec.bias else None,
            output=spec.out_size**2 * channels,
            sums=channels if spec.pooled else None,
        )

        def one_row(y: Expr, channel: Expr, width: int) -> None:
            def source_at(row: Expr, x: int | Expr) -> Expr:
                return (row * spec.in_size + x) * channels + channel

            finish = write_pixels(spec, y, channel, output, sums)
            depthwise_row(
                spec, y, tile.columns, channel, width, features.lanes, input_map, source_at, weights, bias, finish
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


def depthwise_cycles(spec: KernelSpec, columns: int, channels: int, lanes: int) -> float:
    """Expected cycles of one output row, so many channels: multiply-adds or loads, whatever takes longer."""
    vectors, k = -(-channels // lanes), spec.kernel_size
    total = 0.0
    for count, times in block_sizes(spec.out_size, columns):
        loads = ((count - 1) * spec.stride + k + k) * vectors
        work = max(count * vectors * k, loads) / PER_CYCLE
        total += times * (k * max(work, FMA_LATENCY_CYCLES) + TILE_CYCLES)
    return total


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
                many * depthwise_cycles(spec, columns, width, features.lanes)
                for width, many in block_sizes(spec.out_channels, channels)
            )
            uneven = shared_blocks(spec.out_channels, channels, features.cores)
            yield row * spec.out_size * uneven, WindowTile(columns, channels)


DEPTHWISE = Template(
    WindowTile,
    lambda spec: spec.kind == "depthwise" and is_float(spec),
    _depthwise_tiles,
    depthwise,
    as_they_are,
)


def full_window(spec: KernelSpec, tile: WindowTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a full convolution with few input channels (a stem)."""
    inputs, outputs, lanes = spec.in_channels, spec.out_channels, features.lanes
    with kernel(spec.symbol) as finished:
        share, buffers = _window_arguments(spec, features)

        def one_row(y: Expr, channel: Expr, width: int) -> None:
            def one_tile(start: int | Expr, count: int) -> None:
                registers = Accumulators(count, width, lanes)
                registers.start(buffers.bias, channel)
                with window_rows(spec, y) as ky:
                    row = (y * spec.stride - spec.padding + ky) * spec.in_size
                    for kx in range(spec.kernel_size):
                        met = taps(spec, start, count, kx)
                        for c in range(inputs):
                            step = (ky * spec.kernel_size + kx) * inputs + c
                            panel = channel * buffers.depth + step * width
                            panels = [keep(load(buffers.weights, panel + v.offset, v.lanes)) for v in registers.vectors]
                            for pixel, x in met:
                                value = keep(load(buffers.input_map, (row + x) * inputs + c))
                                for vector, weight in zip(registers.vectors, panels, strict=True):
                                    registers.add(pixel, vector, spread(value, vector.lanes) * weight)
                buffers.finish(registers, y, start, channel)

            tiles_of_row(spec, tile.columns, one_tile)

        blocks(
            spec.out_size,
            1,
            lambda y, _: blocks(outputs, tile.channels, lambda channel, width: one_row(y, channel, width)),
            share,
        )
    return finished()


@dataclass(frozen=True)
class _WindowBuffers:
    spec: KernelSpec
    depth: int
    input_map: Buffer
    weights: Buffer
    bias: Buffer | None
    residual: Buffer | None
    output: Buffer

    def finish(self, registers: Accumulators, y: Expr, start: int | Expr, channel: Expr) -> None:
        """Write a tile of row ``y``, activated."""
        for pixel in range(registers.pixels):
            for vector in registers.vectors:
                at = (y * self.spec.out_size + start + pixel) * self.spec.out_channels + channel + vector.offset
                value = registers.value(pixel, vector)
                if self.residual is not None:
                    value = value + load(self.residual, at, vector.lanes)
                store(self.output, activated(value, self.spec.activation, vector.lanes), at, vector.lanes)


def _window_arguments(spec: KernelSpec, features: CpuFeatures) -> tuple[Share, _WindowBuffers]:
    depth = spec.kernel_size**2 * (spec.in_channels // spec.groups)
    elements = spec.out_size**2 * spec.out_channels
    share, buffers = arguments(
        features.cores,
        input_map=spec.in_size**2 * spec.in_channels,
        weights=depth * spec.out_channels,
        bias=spec.out_channels if spec.bias else None,
        residual=elements if spec.residual else None,
        output=elements,
    )
    return share, _WindowBuffers(spec, depth, *buffers)


@dataclass(frozen=True)
class DeepWindowTile:
    """How a convolution with a window and many input channels is cut.

    Args:
        columns: pixels of a register tile, along a row.
        channels: of a register tile, and of one weight panel.
        outer: what the outer loop runs over: one panel for all rows (``channels``), or all panels for one row.
    """

    columns: int
    channels: int
    outer: Literal["channels", "rows"] = "channels"


def deep_window(spec: KernelSpec, tile: DeepWindowTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a convolution, grouped or not, whose sums run over a loop of input channels."""
    inputs, outputs, lanes = spec.in_channels // spec.groups, spec.out_channels // spec.groups, features.lanes
    with kernel(spec.symbol) as finished:
        share, buffers = _window_arguments(spec, features)

        def one_row(y: Expr, group: Expr, first: Expr, width: int) -> None:
            channel = group * outputs + first

            def one_tile(start: int | Expr, count: int) -> None:
                registers = Accumulators(count, width, lanes)
                registers.start(buffers.bias, channel)
                with window_rows(spec, y) as ky:
                    row = (y * spec.stride - spec.padding + ky) * spec.in_size
                    for kx in range(spec.kernel_size):
                        met = taps(spec, start, count, kx)
                        panel = channel * buffers.depth + (ky * spec.kernel_size + kx) * (inputs * width)
                        with T.serial(0, inputs if met else 0) as c:
                            at = panel + c * width
                            panels = [keep(load(buffers.weights, at + v.offset, v.lanes)) for v in registers.vectors]
                            for pixel, x in met:
                                source = (row + x) * spec.in_channels + group * inputs + c
                                value = keep(load(buffers.input_map, source))
                                for vector, weight in zip(registers.vectors, panels, strict=True):
                                    registers.add(pixel, vector, spread(value, vector.lanes) * weight)
                buffers.finish(registers, y, start, channel)

            tiles_of_row(spec, tile.columns, one_tile)

        def rows(body: Callable[[Expr], None], shared: Share | None = None) -> None:
            blocks(spec.out_size, 1, lambda y, _: body(y), shared)

        def panels(body: Callable[[Expr, int], None], shared: Share | None = None) -> None:
            blocks(outputs, tile.channels, body, shared)

        def one_group(group: Expr, shared: Share | None) -> None:
            if tile.outer == "channels":
                panels(lambda first, width: rows(lambda y: one_row(y, group, first, width)), shared)
            else:
                rows(lambda y: panels(lambda first, width: one_row(y, group, first, width)), shared)

        if spec.groups > 1:
            blocks(spec.groups, 1, lambda group, _: one_group(group, None), share)
        else:
            one_group(number(0), share)
    return finished()


def _window_cycles(spec: KernelSpec, columns: int, channels: int, features: CpuFeatures) -> float:
    """Expected cycles of one output row."""
    depth = spec.kernel_size**2 * (spec.in_channels // spec.groups)
    return spec.groups * sum(
        times * many * (depth * tile_cycles(count, width, features.lanes) + TILE_CYCLES)
        for count, times in block_sizes(spec.out_size, columns)
        for width, many in block_sizes(spec.out_channels // spec.groups, channels)
    )


def _register_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(expected cycles of a row, columns, channels) of the tiles that fit the registers."""
    outputs = spec.out_channels // spec.groups
    for channels in panel_widths(outputs, features) or [outputs]:
        vectors = -(-channels // features.lanes)
        for columns in range(1, min(MAX_COLUMNS, spec.out_size) + 1):
            if columns * vectors + vectors + 1 > features.registers:
                break
            yield _window_cycles(spec, columns, channels, features), columns, channels


def _window_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, WindowTile]]:
    uneven = shared_blocks(spec.out_size, 1, features.cores)
    for cycles, columns, channels in _register_tiles(spec, features):
        yield cycles * spec.out_size * uneven, WindowTile(columns, channels)


NEAR_BYTES = 262144
"""Weights that stay near while all pixels pass by."""


def _deep_window_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, DeepWindowTile]]:
    outputs = spec.out_channels // spec.groups
    weight_bytes = 4 * spec.kernel_size**2 * (spec.in_channels // spec.groups) * outputs
    for cycles, columns, channels in _register_tiles(spec, features):
        total = cycles * spec.out_size
        if spec.groups > 1:
            yield total * shared_blocks(spec.groups, 1, features.cores), DeepWindowTile(columns, channels)
            continue
        by_panel = total * shared_blocks(outputs, channels, features.cores)
        yield by_panel * (0.98 if weight_bytes > NEAR_BYTES else 1.02), DeepWindowTile(columns, channels)
        yield total * shared_blocks(spec.out_size, 1, features.cores), DeepWindowTile(columns, channels, "rows")


def _pack_window(
    spec: KernelSpec, tile: WindowTile | DeepWindowTile, constants: list[Array], features: CpuFeatures
) -> list[Array]:
    matrix, outputs = constants[0].reshape(-1, spec.out_channels), spec.out_channels // spec.groups
    return [pack_panels(matrix, outputs, tile.channels), *constants[1:]]


FEW_CHANNELS = 4


def _is_full_window(spec: KernelSpec) -> bool:
    is_plain = not (spec.scaled or spec.pooled) and is_float(spec)
    return spec.kind == "conv" and is_plain and (spec.kernel_size > 1 or spec.stride > 1 or spec.groups > 1)


FULL_WINDOW = Template(
    WindowTile,
    lambda spec: _is_full_window(spec) and spec.in_channels <= FEW_CHANNELS and spec.groups == 1,
    _window_tiles,
    full_window,
    _pack_window,
)
DEEP_WINDOW = Template(
    DeepWindowTile,
    lambda spec: _is_full_window(spec) and (spec.in_channels > FEW_CHANNELS or spec.groups > 1),
    _deep_window_tiles,
    deep_window,
    _pack_window,
)
