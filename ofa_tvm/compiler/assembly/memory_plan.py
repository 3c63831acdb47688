"""Where each tensor of a network lies in one block of memory: tensors that are not alive together share bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A tensor's size in bytes, and the first and last step in which it is alive."""

    name: str
    size_bytes: int
    first: int
    last: int


def aligned(size_bytes: int) -> int:
    """Rounded up to whole cache lines."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


def plan_memory(tensors: Sequence[Lifetime]) -> tuple[dict[str, int], int]:
    """Offsets by name, and bytes in all: first fit, the largest tensor first."""
    placed: list[tuple[int, Lifetime]] = []
    for tensor in sorted(tensors, key=lambda tensor: (-tensor.size_bytes, tensor.first, tensor.name)):
        rivals = sorted(
            (offset, offset + aligned(other.size_bytes))
            for offset, other in placed
            if other.first <= tensor.last and tensor.first <= other.last
        )
        offset = 0
        for start, end in rivals:
            if offset + aligned(tensor.size_bytes) <= start:
                break
            offset = max(offset, end)
        placed.append((offset, tensor))
    total = max((offset + aligned(tensor.size_bytes) for offset, tensor in placed), default=0)
    return {tensor.name: offset for offset, tensor in placed}, total
