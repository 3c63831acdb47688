"""A 1x1 convolution and the depthwise convolution behind it as one kernel, and the sums that squeeze-excite pools.

The expanded map, the largest of a block, is never written: for some channels at a time its rows go through a ring of
rows that stays in the nearest cache. Nothing is computed twice. Blocks of channels do not depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from ofa_tvm.compiler.emit.pointwise import PointwiseTile
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
    multiply_add,
    number,
    scratch,
    spread,
    store,
    vectors,
)
from ofa_tvm.compiler.emit.window import WindowTile, depthwise_row
from ofa_tvm.compiler.tvm_import import tirx
from ofa_tvm.kernels import KernelSpec


@dataclass(frozen=True)
class ExpandTile:
    """How a fused pair is cut: ``channels`` go through one ring of rows; the register tiles of either half."""

    channels: int
    expand: PointwiseTile
    depthwise: WindowTile


def expand_depthwise(
    name: str, expand: KernelSpec, depthwise: KernelSpec, tile: ExpandTile, lanes: int, pooled: bool
) -> Any:
    """The ``PrimFunc`` of a pair, batch 1.

    Arguments: source, weights (``pack_panels(weight, tile.channels, tile.expand.channels)``) and bias of the 1x1
    convolution, weights (window rows, window columns, channels) and bias of the depthwise one, output, [sums of each
    output channel over the map], all flat.

    Args:
        name: of the function.
        expand: the 1x1 convolution.
        depthwise: what reads its output.
        tile: how to cut.
        lanes: of a vector.
        pooled: also give the sums.

    Raises:
        ValueError: the two are no such pair.
    """
    if expand.kind != "conv" or expand.kernel_size != 1 or expand.residual or expand.scaled or expand.batch != 1:
        raise ValueError(f"{expand.key} is no plain 1x1 convolution of one image")
    if depthwise.kind != "depthwise" or depthwise.input_shape != expand.output_shape:
        raise ValueError(f"{depthwise.key} does not read the output of {expand.key}")
    in_size, size = depthwise.in_size, depthwise.out_size
    depth, channels = expand.in_channels, expand.out_channels
    rows = min(in_size, 1 << (depthwise.kernel_size - 1).bit_length())
    with kernel(name) as finished:
        source = argument("source", in_size**2 * depth)
        expand_weights = argument("expand_weights", depth * channels)
        expand_bias = argument("expand_bias", channels) if expand.bias else None
        weights = argument("weights", depthwise.kernel_size**2 * channels)
        bias = argument("bias", channels) if depthwise.bias else None
        output = argument("output", size**2 * channels)
        sums = argument("sums", channels) if pooled else None

        def some_channels(block: Expr, block_width: int) -> None:
            ring = scratch(rows * in_size * block_width)
            if sums is not None:
                _clear(sums, block, block_width, lanes)

            def ring_at(row: Expr, x: int | Expr) -> Expr:
                return (tirx.floormod(row, rows) * in_size + x) * block_width

            def expand_row(row: Expr) -> None:
                def panel(channel: Expr, width: int) -> None:
                    def one_tile(x: Expr, count: int) -> None:
                        registers = Accumulators(count, width, lanes)
                        registers.start(expand_bias, block + channel)
                        first = (row * in_size + x) * depth
                        multiply_add(
                            registers,
                            source,
                            lambda p: first + p * depth,
                            expand_weights,
                            (block + channel) * depth,
                            depth,
                        )
                        for p in range(count):
                            for vector in registers.vectors:
                                value = activated(registers.value(p, vector), expand.activation, vector.lanes)
                                store(ring, value, ring_at(row, x + p) + channel + vector.offset, vector.lanes)

                    blocks(in_size, tile.expand.pixels, one_tile)

                blocks(block_width, tile.expand.channels, panel)

            with T.serial(0, size) as y:
                reach = depthwise.kernel_size - depthwise.padding
                known = (y - 1) * depthwise.stride + reach
                first = tirx.if_then_else(y == 0, number(0), tirx.min(number(in_size), known))
                with T.serial(0, tirx.min(number(in_size), known + depthwise.stride) - first) as new:
                    expand_row(keep(first + new))

                def window(channel: Expr, width: int) -> None:
                    def finish(start: int | Expr, vector: Vector, values: list[Expr]) -> None:
                        at = block + channel + vector.offset
                        held = [keep(value) for value in values]
                        for pixel, value in enumerate(held):
                            store(output, value, (y * size + start + pixel) * channels + at, vector.lanes)
                        if sums is not None:
                            total = load(sums, at, vector.lanes)
                            for value in held:
                                total = total + value
                            store(sums, total, at, vector.lanes)

                    depthwise_row(
                        depthwise,
                        y,
                        tile.depthwise.columns,
                        block + channel,
                        width,
                        lanes,
                        ring,
                        lambda row, x: ring_at(row, x) + channel,
                        weights,
                        bias,
                        finish,
                    )

                blocks(block_width, tile.depthwise.channels, window)

        blocks(channels, tile.channels, some_channels)
    return finished()


def _clear(buffer: Buffer, at: Expr, width: int, lanes: int) -> None:
    for vector in vectors(width, lanes):
        zero = spread(tirx.const(0.0, "float32"), vector.lanes)
        store(buffer, zero, at + vector.offset, vector.lanes)
