"""How bytes lie: outputs dealt to the lanes of vectors, weights in panels of words.

A word of a map is four channels; dot products take such words, or two channels as 16-bit numbers where a CPU multiplies
only those.

Vectors of sums are narrowed by saturating packs, four vectors into one, which interleave 128-bit parts. So the channels
of a tile are dealt to the lanes of its vectors such that the bytes come out in the order of the map: constants are
packed in ``dealt_order``, and at run time nothing is shuffled for 64 channels (at 16 lanes), and whole units of 8 or 4
bytes for 32 or 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures, Dot
from ofa_tvm.compiler.cpu.emit.int8_isa import LEVEL_OFFSET, WORD, levels_of, takes_signed
from ofa_tvm.graph.biased_sums import first_sum
from ofa_tvm.graph.kernel import KernelSpec

NARROWED = 4
"""Vectors that are packed into one."""


def is_int8(spec: KernelSpec, kind: str) -> bool:
    """Whether a kernel is of this kind, with maps of whole words."""
    is_whole = spec.in_channels % WORD == 0 and spec.out_channels % WORD == 0
    return spec.dtype == "int8" and spec.kind == kind and spec.batch == 1 and (is_whole or kind == "dense")


def word_count(elements: int) -> int:
    """Words of so many bytes."""
    return -(-elements // WORD)


@dataclass(frozen=True)
class Group:
    """Neighbouring channels of a tile whose vectors are narrowed together.

    Args:
        offset: of the first channel in the tile.
        lanes: of a vector.
        vectors: side by side; 4, 2 or 1, so that one pack serves 1, 2 or 4 pixels.
    """

    offset: int
    lanes: int
    vectors: int

    @property
    def width(self) -> int:
        """Channels."""
        return self.lanes * self.vectors

    @property
    def pixels(self) -> int:
        """Pixels that one pack serves."""
        return NARROWED // self.vectors

    def channel(self, vector: int) -> list[int]:
        """Channel, from ``offset``, of each lane of a vector."""
        parts, unit = range(self.lanes // WORD), WORD * self.vectors
        return [unit * part + WORD * vector + byte for part in parts for byte in range(WORD)]


def groups(width: int, lanes: int) -> list[Group]:
    """A tile's channels, which are whole words, in groups."""
    cut, offset = [], 0
    while offset < width:
        while lanes > width - offset:
            lanes //= 2
        count = next(count for count in (4, 2, 1) if lanes * count <= width - offset)
        cut.append(Group(offset, lanes, count))
        offset += cut[-1].width
    return cut


def group_of(width: int, lanes: int, offset: int) -> tuple[Group, int]:
    """The group and the vector in it of the lanes at an offset of a tile."""
    for group in groups(width, lanes):
        if group.offset <= offset < group.offset + group.width:
            return group, (offset - group.offset) // group.lanes
    raise ValueError(f"no lane {offset} in a tile of {width}")


def dealt_order(channels: int, lanes: int, *sizes: int) -> NDArray[np.intp]:
    """Channels in the order of the lanes, for blocks of the first size, cut into blocks of the second, ..."""
    if sizes:
        starts = range(0, channels, sizes[0])
        parts = [start + dealt_order(min(sizes[0], channels - start), lanes, *sizes[1:]) for start in starts]
        return np.concatenate(parts)
    order = [
        group.offset + channel
        for group in groups(channels, lanes)
        for vector in range(group.vectors)
        for channel in group.channel(vector)
    ]
    return np.array(order, dtype=np.intp)


def pack_words(
    matrix: NDArray[np.int8], features: CpuFeatures, *sizes: int, of_matrices: bool = False, depth: int | None = None
) -> NDArray[np.int8]:
    """``vector_ir.pack_panels`` with the weights of a word's inputs (``factor_levels``) of an output side by side.

    Inputs and outputs that are no multiples of four are filled with zeros. Where dot products take signed levels, each
    panel begins with what its sums begin with. ``of_matrices``: two words of an output side by side, see ``WordTile``,
    as is ``depth``, if that is not the matrix's.
    """
    if sizes:
        parts = [matrix[:, start : start + sizes[0]] for start in range(0, matrix.shape[1], sizes[0])]
        return np.concatenate(
            [pack_words(part, features, *sizes[1:], of_matrices=of_matrices, depth=depth) for part in parts]
        )
    padded = np.pad(matrix, [(0, -size % WORD) for size in matrix.shape])
    if of_matrices:
        return as_words(padded.reshape(-1, 2 * WORD, padded.shape[1]).transpose(0, 2, 1).reshape(-1, WORD))
    words = as_words(padded.reshape(-1, factor_levels(features), padded.shape[1]).transpose(0, 2, 1))
    return np.concatenate([starts(padded, depth or len(matrix)), words]) if has_starts(features) else words


def as_words(values: NDArray[Any]) -> NDArray[np.int8]:
    """The bytes of words of int32 from bytes (..., 4), or from bytes (..., 2) as 16-bit numbers."""
    wide_enough = values.astype(np.int16) if values.shape[-1] == 2 else values
    return np.frombuffer(np.ascontiguousarray(wide_enough).tobytes(), np.int8)


def starts(matrix: NDArray[np.int8], depth: int) -> NDArray[np.int8]:
    """What sums of each output of a matrix (in, out) begin with, as bytes of int32; ``depth`` as of ``WordTile``."""
    sums: NDArray[np.int32] = LEVEL_OFFSET * matrix.sum(0, np.int32) + first_sum(depth)
    return np.frombuffer(sums.astype(np.int32).tobytes(), np.int8)


def has_starts(features: CpuFeatures) -> bool:
    """Whether sums begin with numbers of their own."""
    return takes_signed(dot_of(features))


def dot_of(features: CpuFeatures) -> Dot:
    """How a CPU that has int8 kernels multiplies bytes."""
    return features.dot or "madd"


def has_matrices(depth: int, features: CpuFeatures) -> bool:
    """Whether products of so many inputs are those of 2x8 and 8x2 matrices (i8mm)."""
    return dot_of(features) == "usdot" and depth % (2 * WORD) == 0


def factor_levels(features: CpuFeatures) -> int:
    """Levels of a word in a dot product: four, or two."""
    return levels_of(dot_of(features))


def has_bytes(features: CpuFeatures) -> bool:
    """Whether dot products take the words of a map as they are."""
    return factor_levels(features) == WORD


def panel_words(depth: int, features: CpuFeatures) -> int:
    """Words of each output in a panel of so many inputs, a multiple of four."""
    return depth // factor_levels(features) + has_starts(features)
