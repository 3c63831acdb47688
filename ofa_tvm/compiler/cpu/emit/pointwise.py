"""1x1 convolutions and dense layers: a matrix product in register tiles, fused to its ends.

Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 2008.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ofa_tvm.compiler.cpu.emit.activations import activated
from ofa_tvm.compiler.cpu.emit.bfloat16 import declare_products
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
    tile_cycles,
)
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    HALF,
    Accumulators,
    Buffer,
    Expr,
    PrimFunc,
    add_to_sums,
    blocks,
    clear,
    constant,
    keep,
    kernel,
    load,
    multiply_add,
    multiply_add_in_parts,
    number,
    pack_panels,
    store,
    typed_arguments,
    vectors,
)
from ofa_tvm.graph.kernel import KernelSpec

MAX_PIXELS = 30
TILE_CYCLES = 12.0
"""Cycles between two register tiles: starting, activation, writing."""
SMALL_PANEL_BYTES = 16384
LARGE_PANELS = 16
"""Vectors of a matrix-vector product's panel, at most."""


@dataclass(frozen=True)
class PointwiseTile:
    """How a 1x1 convolution is cut.

    Args:
        pixels: of a register tile.
        channels: of a register tile, and of one weight panel.
        outer: what the outer loop runs over: one panel for all pixels (``channels``), or all panels for one tile of
            pixels (``pixels``, the only order for a scaled input, which is multiplied once per tile).
    """

    pixels: int
    channels: int
    outer: Literal["channels", "pixels"] = "pixels"


def accepts(spec: KernelSpec) -> bool:
    """1x1 convolutions of stride 1 and dense layers, one image."""
    return is_float(spec) and spec.kind in ("conv", "dense") and spec.kernel_size == spec.stride == spec.groups == 1


def tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, PointwiseTile]]:
    """Tiles that fit the registers, with their expected cycles."""
    area, depth, outputs = spec.in_size**2, product_steps(spec), spec.out_channels
    if area == 1:
        yield from _matrix_vector_tiles(spec, features)
        return
    for channels in panel_widths(outputs, features):
        for pixels in range(1, min(MAX_PIXELS, area) + 1):
            if not fits(pixels, channels, features):
                break
            cycles = sum(
                times * many * (depth * step_cycles(count, width, features) + TILE_CYCLES)
                for count, times in block_sizes(area, pixels)
                for width, many in block_sizes(outputs, channels)
            )
            tile = PointwiseTile(pixels, channels, "pixels")
            if not spec.pooled:
                yield cycles * shared_blocks(area, pixels, features.cores), tile
            if not spec.scaled:
                uneven = shared_blocks(outputs, channels, features.cores)
                # Panels that do not stay in the nearest cache are better read once, and so are pixels.
                order = 0.98 if depth * channels * NUMBER_BYTES[arithmetic(spec)] > SMALL_PANEL_BYTES else 1.02
                yield cycles * uneven * order, PointwiseTile(pixels, channels, "channels")


def _matrix_vector_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, PointwiseTile]]:
    """One pixel: as many sums at a time as hide the latency; wide panels stream better."""
    for count in (8, 4, 12, 6, 2, 16, 1):
        channels = count * features.lanes
        each = 3 if spec.dtype == "float16" else 1  # with two vectors of float32 sums
        if count > min(LARGE_PANELS, (features.registers - 2) // each) or channels >= 2 * max(16, spec.out_channels):
            continue
        steps = sum(
            many * tile_cycles(1, width, features.lanes) for width, many in block_sizes(spec.out_channels, channels)
        )
        uneven = shared_blocks(spec.out_channels, channels, features.cores)
        yield steps * product_steps(spec) * uneven, PointwiseTile(1, min(channels, spec.out_channels), "channels")


def prepares(spec: KernelSpec) -> bool:
    """Whether inputs are written anew before they are multiplied: times their scales, or as what weights are."""
    return spec.scaled or spec.input_type.dtype != spec.weight_types[0].dtype


SHIFT = 256.0
"""Vectors are divided by it, and their weights multiplied: sums over a map may exceed float16, and the weights that
make means of them may fall below it."""


def is_shifted(spec: KernelSpec) -> bool:
    """Whether it is a dense kernel of float16, whose sums and results are float32."""
    return spec.kind == "dense" and spec.dtype == "float16"


def emit(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    lanes, tasks = features.lanes, features.cores
    pixels, depth, outputs = spec.in_size**2, spec.in_channels, spec.out_channels
    factor, own = spec.weight_types[0].dtype, arithmetic(spec)
    with kernel(spec.symbol) as finished:
        share, (source, scales, weights, bias, residual, output, sums, scratch) = typed_arguments(
            tasks,
            input_map=(spec.input_type.dtype, pixels * depth),
            scales=(FLOAT, depth) if spec.scaled else None,
            weights=(factor, depth * outputs),
            bias=(spec.weight_types[-1].dtype, outputs) if spec.bias else None,
            residual=(spec.result_type, pixels * outputs) if spec.residual else None,
            output=None if spec.pooled else (spec.result_type, pixels * outputs),
            sums=(FLOAT, outputs) if spec.pooled else None,
            scratch=(factor, tile.pixels * depth) if prepares(spec) else None,
        )
        if spec.dtype == "bfloat16":
            declare_products()
        input_map = source
        if prepares(spec) and not spec.scaled:
            _prepare(source, 1 / SHIFT if is_shifted(spec) else None, scratch, number(0), pixels, depth, lanes)
            input_map = scratch

        def one_tile(inputs: Buffer, first: Expr, pixel: Expr, count: int, channel: Expr, width: int) -> None:
            registers = Accumulators(count, width, lanes, own)
            registers.start(bias, channel)
            if is_shifted(spec):
                multiply_add_in_parts(registers, inputs, weights, channel * depth, depth, lanes)
            else:
                multiply_add(registers, inputs, lambda p: (first + p) * depth, weights, channel * depth, depth)
            for vector in registers.vectors:
                values = []
                for p in range(count):
                    at = (pixel + p) * outputs + channel + vector.offset
                    value = registers.value(p, vector)
                    if residual is not None:
                        value = value + load(residual, at, vector.lanes, own)
                    values.append(activated(value, spec.activation, vector.lanes))
                    if output is not None:
                        store(output, values[-1], at, vector.lanes)
                if sums is not None:
                    add_to_sums(sums, channel + vector.offset, values, vector.lanes)

        def all_panels(pixel: Expr, count: int) -> None:
            inputs, first = input_map, pixel
            if scales is not None:
                _prepare(source, scales, scratch, pixel, count, depth, lanes)
                inputs, first = scratch, number(0)
            blocks(outputs, tile.channels, lambda channel, width: one_tile(inputs, first, pixel, count, channel, width))

        def all_pixels(channel: Expr, width: int) -> None:
            if sums is not None:
                clear(sums, channel, width, lanes)
            blocks(pixels, tile.pixels, lambda pixel, count: one_tile(input_map, pixel, pixel, count, channel, width))

        if tile.outer == "pixels":
            blocks(pixels, tile.pixels, all_panels, share)
        else:
            blocks(outputs, tile.channels, all_pixels, share)
    return finished()


def _prepare(
    source: Buffer, scales: Buffer | float | None, scratch: Buffer, pixel: Expr, count: int, depth: int, lanes: int
) -> None:
    """Write the inputs of some pixels, times the scales of their channels or a number if there are any."""
    own = HALF if str(source.dtype) == HALF else FLOAT

    def some_channels(channel: Expr, width: int) -> None:
        for vector in vectors(width, lanes):
            at = channel + vector.offset
            if isinstance(scales, float):
                factor = constant(scales, vector.lanes, own)
            else:
                factor = None if scales is None else keep(load(scales, at, vector.lanes, own))
            for p in range(count):
                value = load(source, (pixel + p) * depth + at, vector.lanes, own)
                store(scratch, value if factor is None else value * factor, p * depth + at, vector.lanes)

    blocks(depth, lanes, some_channels)


def pack(spec: KernelSpec, tile: PointwiseTile, constants: list[Array], features: CpuFeatures) -> list[Array]:
    """Weights in panels, then the bias."""
    matrix = constants[0].reshape(spec.in_channels, spec.out_channels)
    if is_shifted(spec):
        matrix = matrix * np.float32(SHIFT)
    return [pack_panels(matrix, tile.channels), *constants[1:]]


def scratch_floats(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> int:
    """The prepared inputs of one tile."""
    return tile.pixels * spec.in_channels if prepares(spec) else 0


def suits(spec: KernelSpec, tile: PointwiseTile, features: CpuFeatures) -> bool:
    """Whether the outer loop is one that a scaled or pooled kernel can have."""
    return not ((spec.scaled and tile.outer == "channels") or (spec.pooled and tile.outer == "pixels"))


POINTWISE = Template(PointwiseTile, accepts, tiles, emit, pack, scratch_floats, suits)
