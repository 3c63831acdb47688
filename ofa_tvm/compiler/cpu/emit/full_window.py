"""Convolutions with a window over channels: of few ones (a stem), of many, and grouped; padded as in ``window``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ofa_tvm.compiler.cpu.emit.activations import activated
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import (
    Array,
    Template,
    arithmetic,
    block_sizes,
    crowding,
    is_float,
    panel_widths,
    shared_blocks,
    step_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    Accumulators,
    Buffer,
    Expr,
    PrimFunc,
    Share,
    blocks,
    keep,
    kernel,
    load,
    number,
    pack_panels,
    spread,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.cpu.emit.window import MAX_COLUMNS, TILE_CYCLES, WindowTile, taps, tiles_of_row, window_rows
from ofa_tvm.compiler.tvm_api.names import T
from ofa_tvm.graph.kernel import KernelSpec


def full_window(spec: KernelSpec, tile: WindowTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a full convolution with few input channels (a stem)."""
    inputs, outputs, lanes = spec.in_channels, spec.out_channels, features.lanes
    with kernel(spec.symbol) as finished:
        share, buffers = _window_arguments(spec, features)

        def one_row(y: Expr, channel: Expr, width: int) -> None:
            def one_tile(start: int | Expr, count: int) -> None:
                registers = Accumulators(count, width, lanes, arithmetic(spec))
                registers.start(buffers.bias, channel)
                with window_rows(spec, y) as ky:
                    row = (y * spec.stride - spec.padding + ky) * spec.in_size
                    for kx in range(spec.kernel_size):
                        met = taps(spec, start, count, kx)
                        for c in range(inputs):
                            step = (ky * spec.kernel_size + kx) * inputs + c
                            panel = channel * buffers.depth + step * width
                            sources = [(pixel, (row + x) * inputs + c) for pixel, x in met]
                            buffers.multiply_add(registers, panel, sources)
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

    def multiply_add(self, registers: Accumulators, at: Expr, sources: list[tuple[int, Expr]]) -> None:
        """Add one row of weights times an input to each of some pixels, given where their inputs are."""
        row = [
            keep(load(self.weights, at + vector.offset, vector.lanes, registers.dtype)) for vector in registers.vectors
        ]
        for pixel, source in sources:
            value = keep(load(self.input_map, source, 1, registers.dtype))
            for vector, weight in zip(registers.vectors, row, strict=True):
                registers.add(pixel, vector, spread(value, vector.lanes) * weight)

    def finish(self, registers: Accumulators, y: Expr, start: int | Expr, channel: Expr) -> None:
        """Write a tile of row ``y``, activated."""
        for pixel in range(registers.pixels):
            for vector in registers.vectors:
                at = (y * self.spec.out_size + start + pixel) * self.spec.out_channels + channel + vector.offset
                value = registers.value(pixel, vector)
                if self.residual is not None:
                    value = value + load(self.residual, at, vector.lanes, registers.dtype)
                store(self.output, activated(value, self.spec.activation, vector.lanes), at, vector.lanes)


def _window_arguments(spec: KernelSpec, features: CpuFeatures) -> tuple[Share, _WindowBuffers]:
    depth = spec.kernel_size**2 * (spec.in_channels // spec.groups)
    elements = spec.out_size**2 * spec.out_channels
    share, buffers = typed_arguments(
        features.cores,
        input_map=(spec.input_type.dtype, spec.in_size**2 * spec.in_channels),
        weights=(spec.weight_types[0].dtype, depth * spec.out_channels),
        bias=(spec.weight_types[-1].dtype, spec.out_channels) if spec.bias else None,
        residual=(spec.map_type, elements) if spec.residual else None,
        output=(spec.map_type, elements),
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
                registers = Accumulators(count, width, lanes, arithmetic(spec))
                registers.start(buffers.bias, channel)
                with window_rows(spec, y) as ky:
                    row = (y * spec.stride - spec.padding + ky) * spec.in_size
                    for kx in range(spec.kernel_size):
                        met = taps(spec, start, count, kx)
                        panel = channel * buffers.depth + (ky * spec.kernel_size + kx) * (inputs * width)
                        with T.serial(0, inputs if met else 0) as c:
                            place = group * inputs + c
                            sources = [(pixel, (row + x) * spec.in_channels + place) for pixel, x in met]
                            buffers.multiply_add(registers, panel + c * width, sources)
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
        times * many * (depth * step_cycles(count, width, features) + TILE_CYCLES)
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
        slower = crowding(columns * -(-channels // features.lanes), features)
        yield cycles * spec.out_size * uneven * slower, WindowTile(columns, channels)


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
