"""Dense layers of an int8 network: a float32 vector becomes u8, meets s8 weights, and leaves as float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import Ends, Written, ends_argument, write_levels
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, clipped, fused
from ofa_tvm.compiler.cpu.emit.int8_order import (
    dot_of,
    factor_levels,
    has_bytes,
    is_int8,
    pack_words,
    panel_words,
    word_count,
)
from ofa_tvm.compiler.cpu.emit.int8_tile import WordTile, multiply_words, shuffled, widen
from ofa_tvm.compiler.cpu.emit.template import Template, block_sizes, shared_blocks, tile_cycles
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Buffer,
    Expr,
    PrimFunc,
    blocks,
    keep,
    kernel,
    load,
    number,
    store,
    typed_arguments,
)
from ofa_tvm.graph.biased_sums import biased_ends
from ofa_tvm.graph.kernel import KernelSpec

LARGE_PANELS = 16


@dataclass(frozen=True)
class DenseTile:
    """Outputs whose sums are computed at a time."""

    channels: int


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, DenseTile]]:
    """As many sums at a time as hide the latency; wide panels stream better."""
    words = spec.in_channels // factor_levels(features)
    for count in (8, 4, 12, 6, 2, 16, 1):
        channels = count * features.lanes
        if count > min(LARGE_PANELS, features.registers - 2) or channels >= 2 * max(features.lanes, spec.out_channels):
            continue
        steps = sum(
            many * tile_cycles(1, width, features.lanes) for width, many in block_sizes(spec.out_channels, channels)
        )
        uneven = shared_blocks(spec.out_channels, channels, features.cores)
        yield steps * words * uneven, DenseTile(min(channels, WORD * word_count(spec.out_channels)))


def emit(spec: KernelSpec, tile: DenseTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    depth = spec.in_channels
    outputs, narrow_words = WORD * word_count(spec.out_channels), depth // WORD
    with kernel(spec.symbol) as finished:
        share, (source, inputs, weights, ends_rows, output, levels) = typed_arguments(
            features.cores,
            source=(FLOAT, depth),
            inputs=(FLOAT, 2 * depth),
            weights=("int32", panel_words(depth, features) * outputs),
            ends=ends_argument(spec, outputs),
            output=(FLOAT, spec.out_channels),
            levels=("int32", scratch_words(spec, tile, features)),
        )
        ends = Ends(ends_rows, outputs, spec.activation, dot_of(features), share.task)

        narrow = replace(features, lanes=WORD)

        def to_levels(channel: Expr, width: int) -> None:
            def value(_: int, offset: int, live: int) -> Expr:
                at = channel + offset
                return fused(load(source, at, live), load(inputs, at, live), load(inputs, depth + at, live), live)

            written = Written(levels, lambda _, offset: (channel + offset) // WORD, has_bytes(features))
            write_levels(value, 1, width, narrow, written)

        def panel(channel: Expr, width: int, missing: int = 0) -> None:
            at = channel * panel_words(depth, features)
            registers = WordTile(1, width, features, depth, (weights, at, share.task))
            first = number(0 if has_bytes(features) else narrow_words)
            multiply_words(registers, levels, lambda _: first, weights, at, depth, has_bytes(features))
            for vector in registers.vectors:
                sums = registers.floats(0, vector.offset, vector.lanes)
                value = keep(_activated(sums, ends, channel + vector.offset, vector.lanes))
                beyond = missing if vector == registers.vectors[-1] else 0
                _store(output, value, channel + vector.offset, vector.lanes - beyond, vector.lanes)

        blocks(depth, 4 * WORD, to_levels)
        if not has_bytes(features):
            widen(levels, number(0), depth, levels, number(narrow_words), features)
        whole = _whole_panels(spec, tile)
        if whole:
            blocks(whole, tile.channels, panel, share)
        if whole < outputs:
            beyond = outputs - spec.out_channels
            blocks(outputs - whole, outputs - whole, lambda _, width: panel(number(whole), width, beyond), share)
    return finished()


def scratch_words(spec: KernelSpec, tile: DenseTile, features: CpuFeatures) -> int:
    """The vector as levels, and where dot products do not take their words, as wider ones behind them."""
    wider = 0 if has_bytes(features) else spec.in_channels // factor_levels(features)
    return spec.in_channels // WORD + wider


def _whole_panels(spec: KernelSpec, tile: DenseTile) -> int:
    """Outputs whose panels write only whole words; a panel of its own writes the rest."""
    if spec.out_channels % WORD == 0:
        return spec.out_channels
    return 0 if tile.channels >= spec.out_channels else spec.out_channels // WORD * WORD


def _store(output: Buffer, value: Expr, at: Expr, live: int, lanes: int) -> None:
    if live == lanes:
        store(output, value, at, lanes)
        return
    for lane in range(live):
        store(output, shuffled(value, [lane]), at + lane)


def _activated(sums: Expr, ends: Ends, channel: Expr, lanes: int) -> Expr:
    value = ends.levels(sums, channel, lanes, 0)
    match ends.activation:
        case "relu":
            return clipped(value, 0, float("inf"), lanes, ends.dot)
        case "relu6":
            return clipped(value, 0, 6, lanes, ends.dot)
        case "hard_sigmoid":
            return clipped(value, 0, 1, lanes, ends.dot)
    return value


def pack(spec: KernelSpec, tile: DenseTile, constants: list[NDArray[Any]], features: CpuFeatures) -> list[Any]:
    """Inputs' ends, weights in panels of words, and outputs' ends, filled up to whole words."""
    inputs, weights, ends = constants
    filled = np.pad(biased_ends(ends, spec.in_channels), ((0, 0), (0, -spec.out_channels % WORD)))
    whole = _whole_panels(spec, tile)
    panels = [
        pack_words(part, features, tile.channels) for part in (weights[:, :whole], weights[:, whole:]) if part.size
    ]
    return [inputs, np.concatenate(panels), filled]


INT8_DENSE = Template(
    DenseTile,
    lambda spec: is_int8(spec, "dense") and spec.in_channels % WORD == 0,
    tiles,
    emit,
    pack,
    scratch_words,
    lambda spec, tile, features: tile.channels % WORD == 0,
)
