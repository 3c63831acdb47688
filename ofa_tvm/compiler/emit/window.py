"""Depthwise and full convolutions with a window, without a padded copy.

Taps above and below the map are left out by the bounds of the loop over window rows; taps beside it because tiles at
the border are unrolled on their own, each with the taps that it has. On small maps that is also less work: a 7x7
window has only 57 % of its taps on a 7x7 map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from ofa_tvm.compiler.emit.vector_ir import (
    Accumulators,
    Buffer,
    Expr,
    Vector,
    activated,
    argument,
    blocks,
    keep,
    kernel,
    load,
    number,
    spread,
    store,
)
from ofa_tvm.compiler.tvm_import import tirx
from ofa_tvm.kernels import KernelSpec


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


def window_rows(spec: KernelSpec, y: Expr) -> Any:
    """A loop over those rows of the window at output row ``y`` that lie on the map."""
    top = y * spec.stride - spec.padding
    return T.serial(tirx.max(number(0), 0 - top), tirx.min(number(spec.kernel_size), spec.in_size - top))


def taps(spec: KernelSpec, start: int | Expr, count: int, column: int) -> list[tuple[int, int | Expr]]:
    """(pixel of the tile, input column) of those taps of a window's column that lie on the map."""
    met = [(pixel, (start + pixel) * spec.stride - spec.padding + column) for pixel in range(count)]
    return [(pixel, x) for pixel, x in met if not isinstance(x, int) or 0 <= x < spec.in_size]


def depthwise_row(
    spec: KernelSpec,
    y: Expr,
    columns: int,
    channel: Expr,
    width: int,
    lanes: int,
    source: Buffer,
    source_at: Callable[[Expr, int | Expr], Expr],
    weights: Buffer,
    bias: Buffer | None,
    finish: Callable[[int | Expr, Vector, list[Expr]], None],
) -> None:
    """One output row of a depthwise convolution, ``width`` channels.

    Args:
        spec: the convolution.
        y: output row.
        columns: pixels of a register tile.
        channel: first channel.
        width: channels.
        lanes: of a vector.
        source: input map, or rows of it.
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
            for kx in range(spec.kernel_size):
                met = taps(spec, start, count, kx)
                if not met:
                    continue
                for vector in registers.vectors:
                    at = (ky * spec.kernel_size + kx) * spec.out_channels + channel + vector.offset
                    weight = keep(load(weights, at, vector.lanes))
                    for pixel, x in met:
                        value = load(source, source_at(row, x) + vector.offset, vector.lanes)
                        registers.add(pixel, vector, value * weight)
        for vector in registers.vectors:
            values = [activated(registers.value(p, vector), spec.activation, vector.lanes) for p in range(count)]
            finish(start, vector, values)

    tiles_of_row(spec, columns, tile)


def depthwise(spec: KernelSpec, tile: WindowTile, lanes: int) -> Any:
    """The ``PrimFunc`` of a depthwise convolution, batch 1.

    Arguments: source, weights (window rows, window columns, channels), bias, output, all flat.

    Raises:
        ValueError: the spec is no depthwise convolution of one image.
    """
    if spec.kind != "depthwise" or spec.batch != 1:
        raise ValueError(f"{spec.key} is no depthwise convolution of one image")
    size, channels = spec.out_size, spec.out_channels
    with kernel(spec.symbol) as finished:
        source = argument("source", spec.in_size**2 * channels)
        weights = argument("weights", spec.kernel_size**2 * channels)
        bias = argument("bias", channels) if spec.bias else None
        output = argument("output", size**2 * channels)

        def some_channels(channel: Expr, width: int) -> None:
            def source_at(row: Expr, x: int | Expr) -> Expr:
                return (row * spec.in_size + x) * channels + channel

            with T.serial(0, size) as y:

                def finish(start: int | Expr, vector: Vector, values: list[Expr]) -> None:
                    for pixel, value in enumerate(values):
                        at = (y * size + start + pixel) * channels + channel + vector.offset
                        store(output, value, at, vector.lanes)

                depthwise_row(spec, y, tile.columns, channel, width, lanes, source, source_at, weights, bias, finish)

        blocks(channels, tile.channels, some_channels)
    return finished()


def full_window(spec: KernelSpec, tile: WindowTile, lanes: int) -> Any:
    """The ``PrimFunc`` of a full convolution with few input channels (a stem), batch 1.

    Arguments: source, weights (rows, columns, in, out; ``pack_panels`` of the (rows x columns x in, out) matrix with
    ``tile.channels``), bias, output, all flat.

    Raises:
        ValueError: the spec is no plain convolution of one image.
    """
    if spec.kind != "conv" or spec.batch != 1 or spec.scaled or spec.residual:
        raise ValueError(f"{spec.key} is no plain convolution of one image")
    size, inputs, outputs = spec.out_size, spec.in_channels, spec.out_channels
    depth = spec.kernel_size**2 * inputs
    with kernel(spec.symbol) as finished:
        source = argument("source", spec.in_size**2 * inputs)
        weights = argument("weights", depth * outputs)
        bias = argument("bias", outputs) if spec.bias else None
        output = argument("output", size**2 * outputs)

        def some_channels(channel: Expr, width: int) -> None:
            with T.serial(0, size) as y:

                def one_tile(start: int | Expr, count: int) -> None:
                    registers = Accumulators(count, width, lanes)
                    registers.start(bias, channel)
                    with window_rows(spec, y) as ky:
                        row = (y * spec.stride - spec.padding + ky) * spec.in_size
                        for kx in range(spec.kernel_size):
                            met = taps(spec, start, count, kx)
                            for c in range(inputs):
                                step = (ky * spec.kernel_size + kx) * inputs + c
                                panel = channel * depth + step * width
                                found = [keep(load(weights, panel + v.offset, v.lanes)) for v in registers.vectors]
                                for pixel, x in met:
                                    value = keep(load(source, (row + x) * inputs + c))
                                    for vector, weight in zip(registers.vectors, found, strict=True):
                                        registers.add(pixel, vector, spread(value, vector.lanes) * weight)
                    for pixel in range(count):
                        for vector in registers.vectors:
                            value = activated(registers.value(pixel, vector), spec.activation, vector.lanes)
                            at = (y * size + start + pixel) * outputs + channel + vector.offset
                            store(output, value, at, vector.lanes)

                tiles_of_row(spec, tile.columns, one_tile)

        blocks(outputs, tile.channels, some_channels)
    return finished()
