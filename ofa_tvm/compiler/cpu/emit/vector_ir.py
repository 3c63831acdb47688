"""Words of the emitters: vectors, loops over blocks, accumulators. Buffers are flat; an open ``IRBuilder`` collects.

Every kernel is a plain C function ``void symbol(int32_t task, float *, ...)``. It does the share of task ``task`` of
the threads that it was emitted for; shares do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.bfloat16 import BITS, add_products, narrowed, widened, words_at
from ofa_tvm.compiler.tvm_api.names import IRBuilder, T, tirx
from ofa_tvm.graph.bfloat16 import PAIR

Buffer = Any
Expr = Any
PrimFunc = Any
Frame = Any
FLOAT = "float32"
HALF = "float16"
PART = 16
"""Inputs of a dense kernel whose products are added up in float16."""


@dataclass(frozen=True)
class Vector:
    """``lanes`` neighbouring channels, ``offset`` channels after the first of a tile."""

    offset: int
    lanes: int


def vectors(channels: int, lanes: int) -> tuple[Vector, ...]:
    """Channels cut into vectors: as many full ones as fit, then halves of halves."""
    pieces, offset = [], 0
    while offset < channels:
        while lanes > channels - offset:
            lanes //= 2
        pieces.append(Vector(offset, lanes))
        offset += lanes
    return tuple(pieces)


@dataclass(frozen=True)
class Share:
    """The part of the work that a call does: that of ``task`` of ``tasks``."""

    task: Expr
    tasks: int


@contextmanager
def kernel(name: str) -> Iterator[Callable[[], PrimFunc]]:
    """Open a function of that name; the call that it gives returns the ``PrimFunc`` once it is closed."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        yield builder.get


def typed_arguments(tasks: int, **arrays: tuple[str, int] | None) -> tuple[Share, list[Buffer]]:
    """Declare the function's arguments: the task, then flat arrays.

    Args:
        tasks: threads that share the work.
        arrays: type of the numbers and how many, of each array in order; None leaves an array out.

    Returns:
        The share, and a buffer (or None) for each array.
    """
    task = T.arg("task", tirx.Var("task", "int32"))
    present = {name: array for name, array in arrays.items() if array is not None}
    pointers = {name: T.arg(name, T.handle(dtype)) for name, (dtype, _) in present.items()}
    buffers = {
        name: T.decl_buffer((max(1, count),), dtype, data=pointers[name]) for name, (dtype, count) in present.items()
    }
    return Share(task, tasks), [buffers.get(name) for name in arrays]


def number(value: int) -> Expr:
    """An index as an expression."""
    return tirx.const(value, "int32")


def blocks(total: int, size: int, body: Callable[[Expr, int], None], share: Share | None = None) -> None:
    """Call ``body(start, extent)`` for each block: one loop over the full ones, the rest on its own.

    Args:
        total: what is cut into blocks.
        size: extent of a full block.
        body: emits one block.
        share: does only the blocks of this share.
    """
    full, rest = divmod(total, size)
    if share is None or share.tasks == 1:
        _loop(number(0), full, lambda block: body(block * size, size))
        if rest:
            body(number(total - rest), rest)
        return
    count = full + (rest > 0)
    first = tirx.floordiv(share.task * count, share.tasks)
    last = tirx.floordiv((share.task + 1) * count, share.tasks)
    if full:
        with T.serial(first, tirx.min(last, number(full))) as block:
            body(block * size, size)
    if rest:
        with T.serial(0, tirx.Select(tirx.all(first < count, last == count), number(1), number(0))):
            body(number(total - rest), rest)


def _loop(first: Expr, count: int, body: Callable[[Expr], None]) -> None:
    """A loop; a single turn is written out."""
    if count > 1:
        with T.serial(first, first + count) as turn:
            body(turn)
    elif count == 1:
        body(first)


def _index(at: Expr, lanes: int) -> Expr:
    return at if lanes == 1 else tirx.Ramp(at, number(1), lanes)


def spread(value: Expr, lanes: int) -> Expr:
    """One number in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def constant(value: float, lanes: int, dtype: str = FLOAT) -> Expr:
    """A number in every lane."""
    return spread(tirx.const(value, dtype), lanes)


def number_of(value: Expr) -> str:
    """The type of a vector's numbers."""
    return str(value.ty).partition("x")[0]


def typed(value: Expr, dtype: str, lanes: int) -> Expr:
    """A float32 or float16 vector as one of another of these types; other types stay what they are."""
    is_other = {number_of(value), dtype} == {FLOAT, HALF}
    return value.astype(dtype if lanes == 1 else f"{dtype}x{lanes}") if is_other else value


def load(buffer: Buffer, at: Expr, lanes: int = 1, dtype: str = FLOAT) -> Expr:
    """Neighbouring elements as a vector: bfloat16 as float32, float32 and float16 as the type that is given."""
    value = tirx.BufferLoad(buffer, [_index(at, lanes)])
    return widened(value, lanes) if buffer.dtype == BITS else typed(value, dtype, lanes)


def store(buffer: Buffer, value: Expr, at: Expr, lanes: int = 1) -> None:
    """Write a vector; float32 as the nearest bfloat16 where the buffer is of that, or float16 likewise."""
    own = narrowed(value, lanes) if buffer.dtype == BITS else typed(value, str(buffer.dtype), lanes)
    T.buffer_store(buffer, own, [_index(at, lanes)])


def keep(value: Expr) -> Expr:
    """Compute once, use often."""
    return T.Bind(value)


class Accumulators:
    """A register tile: ``pixels`` times the vectors of ``channels``.

    Every index is a constant, so LLVM keeps the whole tile in registers as long as there are enough of them.
    """

    def __init__(self, pixels: int, channels: int, lanes: int, dtype: str = FLOAT) -> None:
        self.pixels, self._channels, self.dtype = pixels, channels, dtype
        self.vectors = vectors(channels, lanes)
        self._registers = T.alloc_buffer((pixels * channels,), dtype, scope="local")

    def start(self, bias: Buffer | None, at: Expr) -> None:
        """Set every pixel to the bias of its channels, or to zero."""
        for vector in self.vectors:
            first = constant(0.0, vector.lanes, self.dtype)
            if bias is not None:
                first = keep(load(bias, at + vector.offset, vector.lanes, self.dtype))
            for pixel in range(self.pixels):
                store(self._registers, first, self._at(pixel, vector), vector.lanes)

    def fill(self, value: float) -> None:
        """Set everything to a number."""
        for vector in self.vectors:
            for pixel in range(self.pixels):
                store(self._registers, constant(value, vector.lanes, self.dtype), self._at(pixel, vector), vector.lanes)

    def raise_to(self, pixel: int, vector: Vector, value: Expr) -> None:
        """Raise a pixel's channels to a vector where that is larger."""
        at = self._at(pixel, vector)
        store(self._registers, tirx.max(load(self._registers, at, vector.lanes, self.dtype), value), at, vector.lanes)

    def add(self, pixel: int, vector: Vector, value: Expr) -> None:
        """Add a vector to a pixel's channels."""
        self._change(pixel, vector, lambda total: total + value)

    def add_products(self, pixel: int, vector: Vector, these: Expr, those: Expr) -> None:
        """Add the products of pairs of bfloat16, a word in each lane."""
        self._change(pixel, vector, lambda total: add_products(total, these, those, vector.lanes))

    def _change(self, pixel: int, vector: Vector, change: Callable[[Expr], Expr]) -> None:
        at = self._at(pixel, vector)
        store(self._registers, change(load(self._registers, at, vector.lanes, self.dtype)), at, vector.lanes)

    def value(self, pixel: int, vector: Vector) -> Expr:
        """A pixel's channels as they are now."""
        return load(self._registers, self._at(pixel, vector), vector.lanes, self.dtype)

    def _at(self, pixel: int, vector: Vector) -> Expr:
        return number(pixel * self._channels + vector.offset)


def multiply_add(
    tile: Accumulators, input_map: Buffer, pixel_at: Callable[[int], Expr], weights: Buffer, at: Expr, depth: int
) -> None:
    """Add the product of a tile's pixels with one weight panel; in bfloat16 inputs and weights are both of it.

    Args:
        tile: the accumulators.
        input_map: holds ``depth`` neighbouring inputs of each pixel.
        pixel_at: where a pixel's inputs begin.
        weights: packed by ``pack_panels``.
        at: where the panel of the tile's channels begins.
        depth: input channels.
    """
    channels = sum(vector.lanes for vector in tile.vectors)
    if weights.dtype == BITS:
        with T.serial(0, depth // PAIR) as k:
            first = at + k * (channels * PAIR)
            row = [keep(words_at(weights, first + vector.offset * PAIR, vector.lanes)) for vector in tile.vectors]
            for pixel in range(tile.pixels):
                value = keep(words_at(input_map, pixel_at(pixel) + k * PAIR))
                for vector, weight in zip(tile.vectors, row, strict=True):
                    tile.add_products(pixel, vector, weight, spread(value, vector.lanes))
        return
    with T.serial(0, depth) as k:
        row = [
            keep(load(weights, at + k * channels + vector.offset, vector.lanes, tile.dtype)) for vector in tile.vectors
        ]
        for pixel in range(tile.pixels):
            value = keep(load(input_map, pixel_at(pixel) + k, 1, tile.dtype))
            for vector, weight in zip(tile.vectors, row, strict=True):
                tile.add(pixel, vector, spread(value, vector.lanes) * weight)


def multiply_add_in_parts(
    tile: Accumulators, vector: Buffer, weights: Buffer, at: Expr, depth: int, lanes: int
) -> None:
    """Add the product of a float16 vector with a weight panel to a float32 tile of one pixel.

    Sums of ``PART`` inputs are float16: a conversion costs as much as four products.
    """
    channels = sum(part.lanes for part in tile.vectors)

    def some(first: Expr, count: int) -> None:
        sums = Accumulators(1, channels, lanes, HALF)
        sums.start(None, number(0))
        multiply_add(sums, vector, lambda _: first, weights, at + first * channels, count)
        for part in tile.vectors:
            tile.add(0, part, typed(sums.value(0, part), FLOAT, part.lanes))

    blocks(depth, PART, some)


def add_to_sums(sums: Buffer, at: Expr, values: list[Expr], lanes: int) -> None:
    """Add vectors of several pixels to the float32 sums of their channels; those of float16 are added up first."""
    if number_of(values[0]) == HALF:
        values = [sum(values[1:], values[0])]
    total = load(sums, at, lanes)
    for value in values:
        total = total + typed(value, FLOAT, lanes)
    store(sums, total, at, lanes)


def clear(buffer: Buffer, at: Expr, width: int, lanes: int) -> None:
    """Set neighbouring elements to zero."""
    for vector in vectors(width, lanes):
        store(buffer, constant(0.0, vector.lanes), at + vector.offset, vector.lanes)


def pack_panels(weight: NDArray[Any], *sizes: int) -> NDArray[Any]:
    """A matrix (in, out) as flat panels: all inputs of the first ``sizes[-1]`` outputs, then of the next, ...

    With several sizes the outputs are cut into blocks of the first size, these into blocks of the second, ...; a
    block may be shorter at the end of the one around it. Of bfloat16 (bits), two inputs of an output are neighbours.
    """
    if not sizes:
        if weight.dtype == np.uint16:
            weight = weight.reshape(-1, PAIR, weight.shape[1]).transpose(0, 2, 1)
        return np.ascontiguousarray(weight).ravel()
    parts = [weight[:, start : start + sizes[0]] for start in range(0, weight.shape[1], sizes[0])]
    return np.concatenate([pack_panels(part, *sizes[1:]) for part in parts])
