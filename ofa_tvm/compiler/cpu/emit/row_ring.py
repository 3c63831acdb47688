"""Depthwise convolutions of u8 maps, four rows in a word, so that one dot product does four rows of a window's column.

Some channels of a map at a time go through a ring of words: ``[slot][column, padded][channel]``, each word of
neighbouring rows of a channel: four, or two where a CPU multiplies 16-bit numbers only. Groups of so many rows take
turns in the slots. They hold factors (``as_factor``), since they are read more often than written; padding holds the
zero points. Output rows that are a multiple of a group's rows apart have the same phase: the same groups, and the same
words of weights, which are zero where a row has no tap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.int8_ends import Ends, TileSums, Written, pixel_words, write_levels
from ofa_tvm.compiler.cpu.emit.int8_isa import LEVEL_OFFSET, WORD, bits, filled, narrowed, paired, wide
from ofa_tvm.compiler.cpu.emit.int8_order import Group, as_words, dot_of, factor_levels, has_starts, starts
from ofa_tvm.compiler.cpu.emit.int8_tile import WordTile, as_factor
from ofa_tvm.compiler.cpu.emit.vector_ir import Buffer, Expr, blocks, keep, load, number, store, vectors
from ofa_tvm.compiler.tvm_api.names import T, tirx
from ofa_tvm.graph.kernel import KernelSpec


@dataclass(frozen=True)
class Phases:
    """Which groups of rows an output row needs, by its phase.

    Args:
        spec: a kernel with a depthwise convolution.
        features: of the CPU.
    """

    spec: KernelSpec
    features: CpuFeatures

    @property
    def rows(self) -> int:
        """Rows of a group."""
        return factor_levels(self.features)

    @property
    def count(self) -> int:
        """Output rows for each group of input rows."""
        return self.rows // self.spec.stride

    @property
    def behind(self) -> int:
        """How many groups before its own an output row reads at most."""
        return -min(group for _, group in self.pairs())

    @property
    def ahead(self) -> int:
        """How many groups after its own."""
        return max(group for _, group in self.pairs())

    @property
    def slots(self) -> int:
        """Groups in the ring: a power of two."""
        return 1 << (self.behind + self.ahead).bit_length()

    def ring_words(self, channels: int) -> int:
        """Words of a ring for so many channels."""
        return self.slots * _columns(self.spec) * channels

    def first_row(self, phase: int) -> int:
        """The first input row of a window, from that of its group."""
        return phase * self.spec.stride - self.spec.padding

    def groups(self, phase: int) -> range:
        """The groups that a phase reads, from its own."""
        first = self.first_row(phase)
        return range(first // self.rows, (first + self.spec.kernel_size - 1) // self.rows + 1)

    def pairs(self) -> list[tuple[int, int]]:
        """(phase, group) in the order of the weights."""
        return [(phase, group) for phase in range(self.count) for group in self.groups(phase)]

    def words(self) -> int:
        """Words that ``pack`` gives."""
        return (len(self.pairs()) * self.spec.kernel_size + has_starts(self.features)) * self.spec.out_channels

    def pack(self, window: NDArray[np.int8]) -> NDArray[np.int8]:
        """A window (k, k, channels) as words of a group's rows for each of ``pairs``: (pair, column, channel, row).

        Before them what the sums of each channel begin with, where they have that.
        """
        k, _, channels = window.shape
        words = np.zeros((len(self.pairs()), k, channels, self.rows), np.int8)
        for index, (phase, group) in enumerate(self.pairs()):
            for row in range(self.rows):
                tap = self.rows * group + row - self.first_row(phase)
                if 0 <= tap < k:
                    words[index, :, :, row] = window[tap]
        own_starts = starts(window.reshape(-1, channels), k * k) if has_starts(self.features) else np.empty(0, np.int8)
        return np.concatenate([own_starts, as_words(words)])


def words_of_zeros(zeros: NDArray[np.uint8], features: CpuFeatures) -> NDArray[np.int8]:
    """Zero points as words of a group's rows, as ``as_factor`` gives them."""
    factors = zeros ^ LEVEL_OFFSET if has_starts(features) else zeros
    return as_words(np.repeat(factors[:, None], factor_levels(features), 1))


def _columns(spec: KernelSpec) -> int:
    return spec.in_size + 2 * (spec.kernel_size // 2)


@dataclass(frozen=True)
class DeepTile:
    """Register tile of the depthwise part: ``columns`` pixels of a row times ``channels``."""

    columns: int
    channels: int


class RowRing:
    """A ring for some channels of one map.

    Args:
        spec: a kernel with a depthwise convolution.
        ring: its words.
        width: channels.
        features: of the CPU.
        zeros: see ``words_of_zeros``.
        block: the first channel.
    """

    def __init__(
        self, spec: KernelSpec, ring: Buffer, width: int, features: CpuFeatures, zeros: Buffer, block: Expr
    ) -> None:
        self.spec, self._features, self.lanes = spec, features, features.lanes
        self._ring, self._width, self._zeros, self._block = ring, width, zeros, block
        self._phases = Phases(spec, features)

    def run(self, fill: Callable[[Expr, int], None], output_row: Callable[[Expr, int], None]) -> None:
        """Fill the ring group by group, and compute output rows as soon as their groups are there.

        Args:
            fill: writes a group: its number, and how many of its rows are on the map.
            output_row: computes an output row, of a group, and its phase.
        """
        phases, size, out_size = self._phases, self.spec.in_size, self.spec.out_size
        whole, rest = divmod(size, phases.rows)
        last = whole + (rest > 0) - 1
        for slot in range(phases.slots):
            for column in self._outside():
                self._pad(slot, number(column))
        for before in range(1, phases.behind + 1):
            self._pad_group(number(-before))
        per_group, ahead = phases.count, phases.ahead
        with T.serial(0, last + 1) as group:

            def as_soon_as_needed(coming: int, make: Callable[[], None]) -> None:
                is_next = group == max(0, coming - ahead)
                with T.serial(0, tirx.Select(is_next, number(1), number(0))):
                    make()

            if whole:
                first = tirx.Select(group == 0, number(0), group + ahead)
                with T.serial(first, tirx.min(number(whole), group + ahead + 1)) as new:
                    fill(new, phases.rows)
            if rest:
                as_soon_as_needed(whole, lambda: fill(number(whole), rest))
            for beyond in range(last + 1, last + ahead + 1):
                as_soon_as_needed(beyond, partial(self._pad_group, number(beyond)))
            for phase in range(per_group):
                if last * per_group + phase < out_size:
                    output_row(group, phase)
                else:
                    with T.serial(0, tirx.Select(group == last, number(0), number(1))):
                        output_row(group, phase)

    def _outside(self) -> list[int]:
        side = self.spec.kernel_size // 2
        return [*range(side), *range(side + self.spec.in_size, _columns(self.spec))]

    def _pad_group(self, group: Expr) -> None:
        side = self.spec.kernel_size // 2
        with T.serial(side, side + self.spec.in_size) as column:
            self._pad(self._slot(group), column)

    def _pad(self, slot: Expr | int, column: Expr) -> None:
        for vector in vectors(self._width, self.lanes):
            value = load(self._zeros, self._block + vector.offset, vector.lanes)
            at = (slot * _columns(self.spec) + column) * self._width + vector.offset
            store(self._ring, value, at, vector.lanes)

    def _slot(self, group: Expr) -> Expr:
        return tirx.floormod(group + self._phases.slots, self._phases.slots)

    def at(self, group: Expr, column: Expr | int) -> Expr:
        """The word of the first channel at a column of the map; columns before it are negative."""
        return (self._slot(group) * _columns(self.spec) + column + self.spec.kernel_size // 2) * self._width

    def zero(self, channel: Expr | int, lanes: int) -> Expr:
        """Zero points of channels as int32."""
        words = as_factor(load(self._zeros, self._block + channel, lanes), lanes, self._features)
        return keep(tirx.bitwise_and(words, filled(255, "int32", lanes)))

    def write(self, words: Expr, group: Expr, column: Expr, channel: Expr | int, lanes: int) -> None:
        """Write a column's words of some channels."""
        store(self._ring, as_factor(words, lanes, self._features), self.at(group, column) + channel, lanes)

    def depthwise(
        self,
        group: Expr,
        phase: int,
        tile: DeepTile,
        weights: Buffer,
        ends: Ends,
        output: Buffer,
        sums: Buffer | None,
    ) -> None:
        """One output row of all channels of the ring."""
        spec, k = self.spec, self.spec.kernel_size
        needed = self._phases.groups(phase)
        first_pair = self._phases.pairs().index((phase, needed[0]))
        row = group * self._phases.count + phase

        def panel(channel: Expr, width: int) -> None:
            first_channel = self._block + channel

            def one_tile(start: Expr, count: int) -> None:
                own_ends = ends.of_tile(start)
                registers = WordTile(count, width, self._features, k * k, (weights, first_channel, own_ends.task))
                # A loop, not written out: LLVM would mix its parts, and run out of registers.
                with T.serial(0, len(needed)) as number_of:
                    words = keep(self.at(group + needed[0] + number_of, start * spec.stride - spec.padding) + channel)
                    for vector in registers.vectors:
                        row_of = (first_pair + number_of) * k + has_starts(self._features)
                        at = row_of * spec.out_channels + first_channel + vector.offset
                        taps = [keep(load(weights, at + x * spec.out_channels, vector.lanes)) for x in range(k)]
                        first = words + vector.offset
                        for x in range((count - 1) * spec.stride + k):
                            levels = keep(load(self._ring, first + x * self._width, vector.lanes))
                            for pixel in range(count):
                                if 0 <= (tap := x - pixel * spec.stride) < k:
                                    registers.add_dot(pixel, vector.offset, vector.lanes, levels, taps[tap])

                def value(pixel: int, offset: int, live: int) -> Expr:
                    return own_ends.levels(registers.floats(pixel, offset, live), first_channel + offset, live, pixel)

                def place(pixel: int, offset: int) -> Expr:
                    pixels = row * spec.out_size + start + pixel
                    return (pixels * spec.out_channels + first_channel + offset) // WORD

                own_sums = None if sums is None else TileSums(sums, first_channel, self._features)
                write_levels(value, count, width, self._features, Written(output, place), own_sums)

            blocks(spec.out_size, tile.columns, one_tile)

        blocks(self._width, tile.channels, panel)


def rows_as_words(rows: list[Expr], lanes: int, features: CpuFeatures) -> Expr:
    """Int32 levels of a group's rows, saturated, as words of the rows of a channel."""
    if len(rows) == 2:
        return paired(rows[0], rows[1], lanes)
    return pixel_words(narrowed(rows, lanes, dot_of(features)), Group(0, lanes, 1))


def interleaved(rows: list[Expr], lanes: int) -> Expr:
    """The bytes of a group's rows, each of ``lanes`` channels, as words of the rows of a channel."""
    if len(rows) == 2:
        first, second = (row.astype(wide("int32", lanes)) for row in rows)
        return keep(tirx.bitwise_or(first, tirx.shift_left(second, filled(16, "int32", lanes))))
    order = [number(row * lanes + channel) for channel in range(lanes) for row in range(len(rows))]
    return keep(bits(tirx.Shuffle(rows, order), wide("int32", lanes)))
