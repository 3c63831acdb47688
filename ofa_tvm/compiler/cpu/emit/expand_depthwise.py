"""A 1x1 convolution and the depthwise convolution behind it as one kernel, and the sums that squeeze-excite pools.

The expanded map, the largest of a block, is never written: for some channels at a time its rows go through a ring of
rows that stays in the nearest cache. Nothing is computed twice. Blocks of channels do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import (
    Array,
    Template,
    block_sizes,
    fits,
    is_float,
    panel_widths,
    shared_blocks,
    tile_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    Accumulators,
    Expr,
    PrimFunc,
    activated,
    arguments,
    blocks,
    clear,
    keep,
    kernel,
    multiply_add,
    number,
    pack_panels,
    store,
)
from ofa_tvm.compiler.cpu.emit.window import depthwise_cycles, depthwise_row, window_fits, write_pixels
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.kernel import KernelSpec

TILE_CYCLES = 12.0
NEAR_CACHE_BYTES = 32768
BEYOND_NEAR_CACHE = 1.25
"""How much slower rows are that do not stay in the nearest cache."""


@dataclass(frozen=True)
class ExpandTile:
    """How a fused pair is cut.

    Args:
        channels: that go through one ring of rows.
        pixels: of a register tile of the 1x1 convolution.
        panel: channels of a register tile of the 1x1 convolution.
        columns: pixels of a register tile of the depthwise convolution.
        deep: channels of a register tile of the depthwise convolution.
    """

    channels: int
    pixels: int
    panel: int
    columns: int
    deep: int


def ring_rows(spec: KernelSpec) -> int:
    """Rows of the ring: a power of two that holds a window, or the whole map."""
    return min(spec.in_size, 1 << (spec.kernel_size - 1).bit_length())


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, ExpandTile]]:
    """Tiles that fit the registers, with their expected cycles; register tiles are chosen for each width of a ring."""
    deep_spec = replace(spec, kind="depthwise", in_channels=spec.out_channels)
    for channels in panel_widths(spec.out_channels, features):
        uneven = shared_blocks(spec.out_channels, channels, features.cores)
        ring_bytes = 4 * ring_rows(spec) * spec.in_size * channels
        far = BEYOND_NEAR_CACHE if ring_bytes > NEAR_CACHE_BYTES else 1.0
        expands = sorted(_expand_tiles(spec, channels, features))[:3]
        deeps = sorted(_deep_tiles(deep_spec, channels, features))[:3]
        rings = spec.out_channels / channels
        for expand, panel, pixels in expands:
            for depthwise, deep, columns in deeps:
                cycles = rings * (expand * spec.in_size + depthwise * spec.out_size) * far * uneven
                yield cycles, ExpandTile(channels, -pixels, panel, columns, deep)


def _expand_tiles(spec: KernelSpec, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of one expanded row, panel, -pixels)."""
    for panel in panel_widths(channels, features):
        for pixels in range(1, spec.in_size + 1):
            if not fits(pixels, panel, features):
                break
            cycles = sum(
                times * many * (spec.in_channels * tile_cycles(count, width, features.lanes) + TILE_CYCLES)
                for count, times in block_sizes(spec.in_size, pixels)
                for width, many in block_sizes(channels, panel)
            )
            yield cycles, panel, -pixels


def _deep_tiles(spec: KernelSpec, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of one output row, channels, columns)."""
    for deep in panel_widths(channels, features)[:2]:
        vectors = -(-deep // features.lanes)
        for columns in range(1, spec.out_size + 1):
            if not window_fits(spec, columns, vectors, features):
                break
            cycles = sum(
                many * depthwise_cycles(spec, columns, width, features.lanes)
                for width, many in block_sizes(channels, deep)
            )
            yield cycles, deep, columns


def emit(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a pair."""
    in_size, size, lanes = spec.in_size, spec.out_size, features.lanes
    depth, channels = spec.in_channels, spec.out_channels
    rows = ring_rows(spec)
    with kernel(spec.symbol) as finished:
        share, (input_map, expand_weights, expand_bias, weights, bias, output, sums, ring) = arguments(
            features.cores,
            input_map=in_size**2 * depth,
            expand_weights=depth * channels,
            expand_bias=channels if spec.bias else None,
            weights=spec.kernel_size**2 * channels,
            bias=channels if spec.bias else None,
            output=size**2 * channels,
            sums=channels if spec.pooled else None,
            ring=scratch_floats(spec, tile, features),
        )

        def some_channels(block: Expr, block_width: int) -> None:
            if sums is not None:
                clear(sums, block, block_width, lanes)

            def ring_at(row: Expr, x: int | Expr) -> Expr:
                return (tirx.floormod(row, rows) * in_size + x) * block_width

            def expand_row(row: Expr) -> None:
                def panel(channel: Expr, width: int) -> None:
                    def one_tile(x: Expr, count: int) -> None:
                        registers = Accumulators(count, width, lanes)
                        registers.start(expand_bias, block + channel)
                        first, at = (row * in_size + x) * depth, (block + channel) * depth
                        multiply_add(registers, input_map, lambda p: first + p * depth, expand_weights, at, depth)
                        for p in range(count):
                            for vector in registers.vectors:
                                value = activated(registers.value(p, vector), spec.activation, vector.lanes)
                                store(ring, value, ring_at(row, x + p) + channel + vector.offset, vector.lanes)

                    blocks(in_size, tile.pixels, one_tile)

                blocks(block_width, tile.panel, panel)

            with T.serial(0, size) as y:
                reach = spec.kernel_size - spec.padding
                last_row = (y - 1) * spec.stride + reach
                first = tirx.Select(y == 0, number(0), tirx.min(number(in_size), last_row))
                with T.serial(0, tirx.min(number(in_size), last_row + spec.stride) - first) as new:
                    expand_row(keep(first + new))

                def window(channel: Expr, width: int) -> None:
                    depthwise_row(
                        spec,
                        y,
                        tile.columns,
                        block + channel,
                        width,
                        lanes,
                        ring,
                        lambda row, x: ring_at(row, x) + channel,
                        weights,
                        bias,
                        write_pixels(spec, y, block + channel, output, sums),
                    )

                blocks(block_width, tile.deep, window)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


def pack(spec: KernelSpec, tile: ExpandTile, constants: list[Array], features: CpuFeatures) -> list[Array]:
    """Weights of the 1x1 convolution in panels, the rest as it is."""
    return [pack_panels(constants[0], tile.channels, tile.panel), *constants[1:]]


def scratch_floats(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> int:
    """The ring."""
    return ring_rows(spec) * spec.in_size * tile.channels


EXPAND_DEPTHWISE = Template(
    ExpandTile,
    lambda spec: spec.kind == "expand_depthwise" and is_float(spec),
    tiles,
    emit,
    pack,
    scratch_floats,
)
