"""Between maps of float32 and of levels, where an int8 network has float32 layers; channels have scales of their own.

There is nothing to choose: a thread converts its pixels from the first to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import Written, load_levels, write_levels
from ofa_tvm.compiler.cpu.emit.int8_isa import WORD, fused, is_arm
from ofa_tvm.compiler.cpu.emit.int8_order import NARROWED, Group, dot_of, is_int8
from ofa_tvm.compiler.cpu.emit.template import Template, as_they_are
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Expr,
    PrimFunc,
    blocks,
    keep,
    kernel,
    load,
    store,
    typed_arguments,
    vectors,
)
from ofa_tvm.graph.kernel import KernelSpec


@dataclass(frozen=True)
class ConversionTile:
    """Pixels that are converted at a time."""

    pixels: int = NARROWED


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, ConversionTile]]:
    """The one that there is: pixels whose bytes of a vector of channels fill a vector."""
    yield 0, ConversionTile()


def emit_quantise(spec: KernelSpec, tile: ConversionTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` from float32 to levels."""
    pixels, channels = spec.in_size**2, spec.in_channels
    # What is narrowed at once is a vector, and on ARM one of bytes: then channels need not be dealt.
    width = WORD * WORD if is_arm(dot_of(features)) else features.lanes
    with kernel(spec.symbol) as finished:
        share, (source, inputs, output) = typed_arguments(
            features.cores,
            source=(FLOAT, pixels * channels),
            inputs=(FLOAT, 2 * channels),
            output=("int32", pixels * channels // WORD),
        )

        def some(pixel: Expr, count: int) -> None:
            def part(channel: Expr, live: int) -> None:
                def value(p: int, offset: int, lanes: int) -> Expr:
                    at = channel + offset
                    numbers = load(source, (pixel + p) * channels + at, lanes)
                    return fused(numbers, load(inputs, at, lanes), load(inputs, channels + at, lanes), lanes)

                def place(p: int, offset: int) -> Expr:
                    return ((pixel + p) * channels + channel + offset) // WORD

                write_levels(value, count, live, features, Written(output, place))

            blocks(channels, width, part)

        blocks(pixels, tile.pixels, some, share)
    return finished()


def emit_dequantise(spec: KernelSpec, tile: ConversionTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc`` from levels to float32."""
    pixels, channels = spec.in_size**2, spec.in_channels
    with kernel(spec.symbol) as finished:
        share, (source, scales, output) = typed_arguments(
            features.cores,
            source=("int32", pixels * channels // WORD),
            scales=(FLOAT, 2 * channels),
            output=(FLOAT, pixels * channels),
        )

        def some(pixel: Expr, count: int) -> None:
            def part(channel: Expr, live: int) -> None:
                for vector in vectors(live, features.lanes):
                    at, lanes = channel + vector.offset, vector.lanes
                    scale, zero = (keep(load(scales, row * channels + at, lanes)) for row in range(2))
                    for p in range(count):
                        place = (pixel + p) * channels + at
                        levels = load_levels(source, place // WORD, Group(0, lanes, 1), 0)
                        store(output, (levels - zero) * scale, place, lanes)

            blocks(channels, features.lanes, part)

        blocks(pixels, tile.pixels, some, share)
    return finished()


def _template(
    kind: str, emit: Callable[[KernelSpec, ConversionTile, CpuFeatures], PrimFunc]
) -> Template[ConversionTile]:
    return Template(ConversionTile, lambda spec: is_int8(spec, kind), tiles, emit, as_they_are)


QUANTISE = _template("quantise", emit_quantise)
DEQUANTISE = _template("dequantise", emit_dequantise)
