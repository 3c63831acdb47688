"""Depthwise convolutions of u8 maps, and the sums that squeeze-excite pools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import Ends, TileSums, arm_end_cycles, close_sums, ends_argument
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, bits, is_arm, wide
from ofa_tvm.compiler.cpu.emit.int8_order import dot_of, is_int8
from ofa_tvm.compiler.cpu.emit.row_ring import DeepTile, Phases, RowRing, interleaved, words_of_zeros
from ofa_tvm.compiler.cpu.emit.template import LOAD, PER_CYCLE, TAKEN, Template, block_sizes, shared_blocks
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Expr,
    PrimFunc,
    blocks,
    clear,
    keep,
    kernel,
    load,
    typed_arguments,
    vectors,
)
from ofa_tvm.compiler.tvm_api.names import T
from ofa_tvm.graph.biased_sums import biased_ends
from ofa_tvm.graph.kernel import KernelSpec

TILE_CYCLES = 8.0
MAX_COLUMNS = 28
SPARE_REGISTERS = 4
SPILL_CYCLES = 1.5


@dataclass(frozen=True)
class Int8DepthwiseTile:
    """How a depthwise convolution is cut.

    Args:
        channels: that go through one ring of rows; a register tile has as many of them as are narrowed at once.
        columns: pixels of a register tile.
    """

    channels: int
    columns: int


def emit(spec: KernelSpec, tile: Int8DepthwiseTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    lanes, size, channels = features.lanes, spec.in_size, spec.out_channels
    words, phases = channels // WORD, Phases(spec, features)
    with kernel(spec.symbol) as finished:
        share, (input_map, zeros, weights, ends_rows, output, sums, ring) = typed_arguments(
            features.cores,
            input_map=("int32", size**2 * words),
            zeros=("int32", channels),
            weights=("int32", phases.words()),
            ends=ends_argument(spec, channels),
            output=("int32", spec.out_size**2 * words),
            sums=(FLOAT, channels) if spec.pooled else None,
            ring=("int32", phases.ring_words(tile.channels)),
        )
        ends = Ends(ends_rows, channels, spec.activation, dot_of(features), share.task)
        deep = DeepTile(tile.columns, TileSums.channels(features))

        def some_channels(block: Expr, width: int) -> None:
            if sums is not None:
                clear(sums, block, width, lanes)
            own = RowRing(spec, ring, width, features, zeros, block)

            def fill(group: Expr, live: int) -> None:
                with T.serial(0, size) as column:
                    for vector in vectors(width, lanes):
                        as_bytes = wide("uint8", vector.lanes)
                        rows = []
                        for row in range(phases.rows):
                            at = ((group * phases.rows + row) * size + column) * channels + block + vector.offset
                            if row < live:
                                rows.append(keep(bits(load(input_map, at // WORD, vector.lanes // WORD), as_bytes)))
                            else:
                                rows.append(keep(own.zero(vector.offset, vector.lanes).astype(as_bytes)))
                        own.write(interleaved(rows, vector.lanes), group, column, vector.offset, vector.lanes)

            own.run(fill, lambda group, phase: own.depthwise(group, phase, deep, weights, ends, output, sums))
            if sums is not None:
                close_sums(sums, block, width, lanes)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


def deep_cycles(spec: KernelSpec, columns: int, channels: int, features: CpuFeatures) -> float:
    """Expected cycles of the output rows of a group of input rows, so many channels."""
    count, phases = -(-channels // features.lanes), Phases(spec, features)
    pairs = len(phases.pairs())
    total = 0.0
    for pixels, times in block_sizes(spec.out_size, columns):
        loads = (pixels - 1) * spec.stride + 2 * spec.kernel_size
        work = pairs * count * max(pixels * spec.kernel_size, loads) / 2
        ends = count * -(-pixels // 4) * 12.0
        if is_arm(dot_of(features)):
            products = pixels * spec.kernel_size
            # LLVM loads what lies in two neighbouring vectors at once, and spills what is too much.
            held = pixels * count + spec.kernel_size * min(count, 2) + SPARE_REGISTERS
            spilled = SPILL_CYCLES * max(0, held - features.registers)
            work = pairs * (count * max(products / PER_CYCLE, (products + LOAD * loads) / TAKEN) + spilled)
            ends = arm_end_cycles(pixels, channels, spec.activation, spec.pooled)
        total += times * (work + phases.count * (TILE_CYCLES + ends))
    return total


def deep_fits(spec: KernelSpec, columns: int, channels: int, features: CpuFeatures) -> bool:
    """Whether a register tile leaves room for a column's weights and a word."""
    return columns * -(-channels // features.lanes) + spec.kernel_size + SPARE_REGISTERS <= features.registers


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, Int8DepthwiseTile]]:
    """Tiles that fit the registers, with their expected cycles."""
    rows, most = Phases(spec, features).rows, TileSums.channels(features)
    for channels in sorted({min(spec.out_channels, most * count) for count in (1, 2, 4)}):
        deep = min(channels, most)
        for columns in range(1, min(MAX_COLUMNS, spec.out_size) + 1):
            if not deep_fits(spec, columns, deep, features):
                break
            widths = block_sizes(spec.out_channels, deep)
            group = sum(many * deep_cycles(spec, columns, width, features) for width, many in widths)
            uneven = shared_blocks(spec.out_channels, channels, features.cores)
            yield group * spec.in_size / rows * uneven, Int8DepthwiseTile(channels, columns)


def pack(spec: KernelSpec, tile: Int8DepthwiseTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """Zero points as words, weights as words of rows, ends; channels as they are."""
    zeros, window, ends = constants
    return [
        words_of_zeros(zeros, features),
        Phases(spec, features).pack(window),
        biased_ends(ends, spec.kernel_size**2),
    ]


INT8_DEPTHWISE = Template(
    Int8DepthwiseTile,
    lambda spec: is_int8(spec, "depthwise"),
    tiles,
    emit,
    pack,
    lambda spec, tile, features: Phases(spec, features).ring_words(tile.channels),
    lambda spec, tile, features: tile.channels % WORD == 0,
)
