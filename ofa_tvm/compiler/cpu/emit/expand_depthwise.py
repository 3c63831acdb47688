"""A 1x1 convolution and the depthwise convolution behind it as one kernel, and the sums that squeeze-excite pools.

The expanded map, the largest of a block, is never written: for some channels at a time its rows go through a ring of
rows that stays in the nearest cache. Nothing is computed twice. Blocks of channels do not depend on each other.

In bfloat16 the ring holds words of two rows, see ``window.Rows``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofa_tvm.compiler.cpu.emit.activations import activated
from ofa_tvm.compiler.cpu.emit.bfloat16 import WORD, declare_products, paired
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import (
    NUMBER_BYTES,
    Array,
    Template,
    arithmetic,
    block_sizes,
    fits,
    is_float,
    panel_widths,
    product_steps,
    shared_blocks,
    step_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Accumulators,
    Expr,
    PrimFunc,
    blocks,
    clear,
    constant,
    keep,
    kernel,
    multiply_add,
    number,
    pack_panels,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.cpu.emit.window import Rows, depthwise_cycles, depthwise_row, several, window_fits, write_pixels
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.bfloat16 import PAIR
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
        pixels: of a row in a register tile of the 1x1 convolution.
        panel: channels of a register tile of the 1x1 convolution.
        columns: pixels of a register tile of the depthwise convolution.
        deep: channels of a register tile of the depthwise convolution.
    """

    channels: int
    pixels: int
    panel: int
    columns: int
    deep: int


def rows_of(spec: KernelSpec) -> Rows:
    """How rows lie in the ring."""
    return Rows(spec, PAIR if spec.dtype == "bfloat16" else 1)


def slots(rows: Rows) -> int:
    """Groups of rows in the ring: a power of two that holds a window, or the whole map."""
    return min(rows.groups, 1 << (rows.met - 1).bit_length())


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, ExpandTile]]:
    """Tiles that fit the registers, with their expected cycles; register tiles are chosen for each width of a ring."""
    rows = rows_of(spec)
    for channels in panel_widths(spec.out_channels, features):
        uneven = shared_blocks(spec.out_channels, channels, features.cores)
        ring_bytes = NUMBER_BYTES[arithmetic(spec)] * slots(rows) * spec.in_size * channels
        far = BEYOND_NEAR_CACHE if ring_bytes > NEAR_CACHE_BYTES else 1.0
        expands = sorted(_expand_tiles(rows, channels, features))[:3]
        deeps = sorted(_deep_tiles(rows, channels, features))[:3]
        rings = spec.out_channels / channels
        for expand, panel, pixels in expands:
            for depthwise, deep, columns in deeps:
                cycles = rings * (expand * rows.groups + depthwise * spec.out_size) * far * uneven
                yield cycles, ExpandTile(channels, -pixels, panel, columns, deep)


def _expand_tiles(rows: Rows, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of one expanded group of rows, panel, -pixels)."""
    spec, together, steps = rows.spec, rows.together, product_steps(rows.spec)
    for panel in panel_widths(channels, features):
        for pixels in range(1, spec.in_size + 1):
            if not fits(together * pixels, panel, features):
                break
            cycles = sum(
                times * many * (steps * step_cycles(together * count, width, features) + TILE_CYCLES)
                for count, times in block_sizes(spec.in_size, pixels)
                for width, many in block_sizes(channels, panel)
            )
            yield cycles, panel, -pixels


def _deep_tiles(rows: Rows, channels: int, features: CpuFeatures) -> Iterator[tuple[float, int, int]]:
    """(cycles of one output row, channels, columns)."""
    for deep in panel_widths(channels, features)[:2]:
        vectors = -(-deep // features.lanes)
        for columns in range(1, rows.spec.out_size + 1):
            if not window_fits(rows.spec, columns, vectors, features):
                break
            cycles = sum(
                many * depthwise_cycles(rows, columns, width, features.lanes)
                for width, many in block_sizes(channels, deep)
            )
            yield cycles * several(columns, vectors, features), deep, columns


def emit(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` of a pair."""
    in_size, size, lanes = spec.in_size, spec.out_size, features.lanes
    depth, channels = spec.in_channels, spec.out_channels
    rows, own = rows_of(spec), arithmetic(spec)
    together, places = rows.together, slots(rows)
    # A word of two rows is one number of the ring, and of the window's weights.
    element, window_elements = (own, spec.kernel_size**2) if together == 1 else (WORD, rows.words)
    with kernel(spec.symbol) as finished:
        share, (input_map, expand_weights, expand_bias, weights, bias, output, sums, ring) = typed_arguments(
            features.cores,
            input_map=(spec.input_type.dtype, in_size**2 * depth),
            expand_weights=(spec.map_type, depth * channels),
            expand_bias=(own, channels) if spec.bias else None,
            weights=(element, window_elements * channels),
            bias=(own, channels) if spec.bias else None,
            output=(spec.map_type, size**2 * channels),
            sums=(FLOAT, channels) if spec.pooled else None,
            ring=(element, scratch_floats(spec, tile, features)),
        )
        if together > 1:
            declare_products()

        def some_channels(block: Expr, block_width: int) -> None:
            if sums is not None:
                clear(sums, block, block_width, lanes)

            def ring_at(group: Expr, x: int | Expr) -> Expr:
                return (tirx.floormod(group, places) * in_size + x) * block_width

            def expand(group: Expr, live: int) -> None:
                def panel(channel: Expr, width: int) -> None:
                    def one_tile(x: Expr, count: int) -> None:
                        registers = Accumulators(live * count, width, lanes, own)
                        registers.start(expand_bias, block + channel)
                        first, at = (group * (together * in_size) + x) * depth, (block + channel) * depth

                        def pixel_at(pixel: int) -> Expr:
                            row, p = divmod(pixel, count)
                            return first + (row * in_size + p) * depth

                        multiply_add(registers, input_map, pixel_at, expand_weights, at, depth)
                        for p in range(count):
                            for vector in registers.vectors:
                                values = [
                                    activated(registers.value(row * count + p, vector), spec.activation, vector.lanes)
                                    for row in range(live)
                                ]
                                value = values[0]
                                if together > 1:
                                    zero = constant(0.0, vector.lanes)
                                    value = paired(value, values[1] if live > 1 else zero, vector.lanes)
                                store(ring, value, ring_at(group, x + p) + channel + vector.offset, vector.lanes)

                    blocks(in_size, tile.pixels, one_tile)

                blocks(block_width, tile.panel, panel)

            with T.serial(0, size) as y:
                whole = in_size // together
                first = tirx.Select(y == 0, number(0), tirx.min(number(rows.groups), rows.first(y - 1) + rows.met))
                end = rows.first(y) + rows.met
                with T.serial(0, tirx.min(number(whole), end) - first) as new:
                    expand(keep(first + new), together)
                if in_size % together:
                    is_next = tirx.all(first <= whole, whole < end)
                    with T.serial(0, tirx.Select(is_next, number(1), number(0))):
                        expand(number(whole), in_size % together)

                def window(channel: Expr, width: int) -> None:
                    depthwise_row(
                        rows,
                        y,
                        tile.columns,
                        block + channel,
                        width,
                        lanes,
                        ring,
                        lambda group, x: ring_at(group, x) + channel,
                        weights,
                        bias,
                        write_pixels(spec, y, block + channel, output, sums),
                    )

                blocks(block_width, tile.deep, window)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


def pack(spec: KernelSpec, tile: ExpandTile, constants: list[Array], features: CpuFeatures) -> list[Array]:
    """Weights of the 1x1 convolution in panels, the window as ``Rows.pack`` gives it, the rest as it is."""
    rows = rows_of(spec)
    rest = [rows.pack(array) if array.ndim == 3 and rows.together > 1 else array for array in constants[1:]]
    return [pack_panels(constants[0], tile.channels, tile.panel), *rest]


def scratch_floats(spec: KernelSpec, tile: ExpandTile, features: CpuFeatures) -> int:
    """The ring."""
    return slots(rows_of(spec)) * spec.in_size * tile.channels


EXPAND_DEPTHWISE = Template(
    ExpandTile,
    lambda spec: spec.kind == "expand_depthwise" and is_float(spec),
    tiles,
    emit,
    pack,
    scratch_floats,
)
