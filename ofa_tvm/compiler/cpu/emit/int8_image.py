"""What stands at the ends of an int8 network's maps: the convolution of a float32 image, and sums of a u8 map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ir import (
    WORD,
    Ends,
    Group,
    WordTile,
    dealt_order,
    ends_argument,
    is_int8,
    load_levels,
    word_count,
    write_levels,
)
from ofa_tvm.compiler.cpu.emit.pool import PoolTile, pool_tiles
from ofa_tvm.compiler.cpu.emit.template import Template
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Expr,
    blocks,
    keep,
    kernel,
    load,
    pack_panels,
    spread,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.cpu.emit.window import WindowTile, taps, tiles_of_row, window_rows, window_tiles
from ofa_tvm.compiler.tvm_api.names import T
from ofa_tvm.graph.kernel import KernelSpec


def emit_stem(spec: KernelSpec, tile: WindowTile, features: CpuFeatures) -> Any:
    """The ``PrimFunc`` of a full convolution of a float32 image: products in float32, levels as output."""
    size, inputs, outputs, lanes = spec.out_size, spec.in_channels, spec.out_channels, features.lanes
    depth = spec.kernel_size**2 * inputs
    with kernel(spec.symbol) as finished:
        share, (image, weights, ends_rows, output) = typed_arguments(
            features.cores,
            image=(FLOAT, spec.in_size**2 * inputs),
            weights=(FLOAT, depth * outputs),
            ends=ends_argument(spec, outputs),
            output=("int32", size**2 * outputs // WORD),
        )
        ends = Ends(ends_rows, outputs, spec.activation)

        def one_row(y: Expr, channel: Expr, width: int) -> None:
            def one_tile(start: int | Expr, count: int) -> None:
                registers = WordTile(count, width, lanes, FLOAT)
                with window_rows(spec, y) as ky:
                    row = (y * spec.stride - spec.padding + ky) * spec.in_size
                    for kx in range(spec.kernel_size):
                        met = taps(spec, start, count, kx)
                        for c in range(inputs):
                            panel = channel * depth + ((ky * spec.kernel_size + kx) * inputs + c) * width
                            panels = [keep(load(weights, panel + v.offset, v.lanes)) for v in registers.vectors]
                            for pixel, x in met:
                                value = keep(load(image, (row + x) * inputs + c))
                                for vector, weight in zip(registers.vectors, panels, strict=True):
                                    factor = spread(value, vector.lanes)

                                    def more(total: Expr, factor: Expr = factor, weight: Expr = weight) -> Expr:
                                        return total + factor * weight

                                    registers.update(pixel, vector.offset, vector.lanes, more)

                def value_of(pixel: int, offset: int, live: int) -> Expr:
                    return ends.levels(registers.floats(pixel, offset, live), channel + offset, live)

                def place(pixel: int, offset: int) -> Expr:
                    return ((y * size + start + pixel) * outputs + channel + offset) // WORD

                write_levels(value_of, count, width, lanes, output, place)

            tiles_of_row(spec, tile.columns, one_tile)

        blocks(
            size,
            1,
            lambda y, _: blocks(outputs, tile.channels, lambda channel, width: one_row(y, channel, width)),
            share,
        )
    return finished()


def pack_stem(spec: KernelSpec, tile: WindowTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """Weights in panels and ends, channels dealt."""
    weights, ends = constants
    order = dealt_order(spec.out_channels, features.lanes, tile.channels)
    matrix = weights.reshape(-1, spec.out_channels)[:, order]
    return [pack_panels(matrix, tile.channels), np.ascontiguousarray(ends[:, order])]


def _is_stem(spec: KernelSpec) -> bool:
    plain = not (spec.scaled or spec.residual or spec.pooled) and spec.batch == 1
    return spec.dtype == "int8" and plain and spec.reads_image and spec.out_channels % WORD == 0


INT8_STEM = Template(WindowTile, _is_stem, window_tiles, emit_stem, pack_stem)


def emit_pool(spec: KernelSpec, tile: PoolTile, features: CpuFeatures) -> Any:
    """The ``PrimFunc`` that adds up the levels of each channel; float32 is exact as far as maps reach."""
    channels, lanes = spec.in_channels, features.lanes
    with kernel(spec.symbol) as finished:
        share, (input_map, output) = typed_arguments(
            features.cores, input_map=("int32", spec.in_size**2 * word_count(channels)), output=(FLOAT, channels)
        )

        def some_channels(channel: Expr, width: int) -> None:
            registers = WordTile(1, width, lanes, FLOAT)
            with T.serial(0, spec.in_size**2) as pixel:
                for vector in registers.vectors:
                    at = (pixel * channels + channel + vector.offset) // WORD
                    levels = load_levels(input_map, at, Group(0, vector.lanes, 1), 0)
                    registers.update(0, vector.offset, vector.lanes, lambda total, levels=levels: total + levels)
            for vector in registers.vectors:
                store(output, registers.floats(0, vector.offset, vector.lanes), channel + vector.offset, vector.lanes)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


INT8_POOL = Template(
    PoolTile, lambda spec: is_int8(spec, "pool"), pool_tiles, emit_pool, lambda spec, tile, constants, features: constants
)

