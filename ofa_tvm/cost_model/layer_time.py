"""LayerTime: what one call of a subnet's kernels takes, and the work that it does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerTime:
    """One call of a subnet.

    Args:
        layers: names of the layers that it computes.
        kernel: key of its kernel.
        kind: of the kernel.
        time_ms: its share of the subnet's latency.
        flops: operations of one call of the subnet, see ``KernelSpec.flops``.
        moved_bytes: of weights and maps in one call of the subnet, each read or written once.
        is_tuned: the kernel has a winner in the tuning log.
        kernel_ms: what the kernel takes alone, as it was tuned; an estimate where it was not, and None in files of
            older versions.
    """

    layers: tuple[str, ...]
    kernel: str
    kind: str
    time_ms: float
    flops: int
    moved_bytes: int
    is_tuned: bool
    kernel_ms: float | None = None
