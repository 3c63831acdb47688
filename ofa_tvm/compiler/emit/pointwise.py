"""1x1 convolutions: a matrix product in register tiles (Goto and van de Geijn, ACM TOMS 2008), fused to its ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ofa_tvm.compiler.emit.vector_ir import (
    Accumulators,
    Buffer,
    Expr,
    activated,
    argument,
    blocks,
    keep,
    kernel,
    load,
    multiply_add,
    number,
    scratch,
    store,
    vectors,
)
from ofa_tvm.kernels import KernelSpec


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


def pointwise(spec: KernelSpec, tile: PointwiseTile, lanes: int) -> Any:
    """The ``PrimFunc`` of a 1x1 convolution.

    Arguments: source, [scales], weights (``pack_panels(weight, tile.channels)``), bias, [residual], output, all flat.

    Raises:
        ValueError: the spec is no 1x1 convolution of stride 1, or is scaled with ``outer="channels"``.
    """
    if spec.kind != "conv" or spec.kernel_size != 1 or spec.stride != 1:
        raise ValueError(f"{spec.key} is no 1x1 convolution of stride 1")
    if spec.scaled and tile.outer == "channels":
        raise ValueError(f"{spec.key}: a scaled input needs outer='pixels'")
    pixels, depth, outputs = spec.batch * spec.out_size**2, spec.in_channels, spec.out_channels
    if spec.scaled and spec.batch != 1:
        raise ValueError(f"{spec.key}: a scaled input needs batch 1")
    with kernel(spec.symbol) as finished:
        source = argument("source", pixels * depth)
        scales = argument("scales", depth) if spec.scaled else None
        weights = argument("weights", depth * outputs)
        bias = argument("bias", outputs) if spec.bias else None
        residual = argument("residual", pixels * outputs) if spec.residual else None
        output = argument("output", pixels * outputs)

        def one_tile(inputs: Buffer, first: Expr, pixel: Expr, count: int, channel: Expr, width: int) -> None:
            registers = Accumulators(count, width, lanes)
            registers.start(bias, channel)
            multiply_add(registers, inputs, lambda p: (first + p) * depth, weights, channel * depth, depth)
            for p in range(count):
                for vector in registers.vectors:
                    at = (pixel + p) * outputs + channel + vector.offset
                    value = registers.value(p, vector)
                    if residual is not None:
                        value = value + load(residual, at, vector.lanes)
                    store(output, activated(value, spec.activation, vector.lanes), at, vector.lanes)

        def all_panels(pixel: Expr, count: int) -> None:
            inputs, first = source, pixel
            if scales is not None:
                inputs, first = _scaled(source, scales, pixel, count, depth, lanes), number(0)
            blocks(outputs, tile.channels, lambda channel, width: one_tile(inputs, first, pixel, count, channel, width))

        def all_pixels(channel: Expr, width: int) -> None:
            blocks(pixels, tile.pixels, lambda pixel, count: one_tile(source, pixel, pixel, count, channel, width))

        if tile.outer == "pixels":
            blocks(pixels, tile.pixels, all_panels)
        else:
            blocks(outputs, tile.channels, all_pixels)
    return finished()


def _scaled(source: Buffer, scales: Buffer, pixel: Expr, count: int, depth: int, lanes: int) -> Buffer:
    """The inputs of some pixels times the scales of their channels."""
    staged = scratch(count * depth)

    def some_channels(channel: Expr, width: int) -> None:
        for vector in vectors(width, lanes):
            at = channel + vector.offset
            factor = keep(load(scales, at, vector.lanes))
            for p in range(count):
                value = load(source, (pixel + p) * depth + at, vector.lanes) * factor
                store(staged, value, p * depth + at, vector.lanes)

    blocks(depth, lanes, some_channels)
    return staged
