"""Where a subnet's latency goes: its calls of kernels, each with its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ofa_tvm.graph.kernel import KernelSpec


@dataclass(frozen=True)
class Part:
    """One call of a subnet.

    Args:
        layers: names of the layers that it computes.
        kernel: key of its kernel.
        predicted_ms: its share of the subnet's predicted latency.
        kernel_ms: what the kernel takes alone; with ``is_tuned`` false an estimate.
        is_tuned: the kernel has a winner in the tuning log.
    """

    layers: tuple[str, ...]
    kernel: str
    predicted_ms: float
    kernel_ms: float
    is_tuned: bool


def breakdown(
    whole_ms: float,
    steps: Sequence[tuple[tuple[str, ...], KernelSpec]],
    costs: Mapping[str, float],
    tuned: set[str],
) -> list[Part]:
    """The calls of a network in order; its latency is split among them as their kernels' times alone.

    A latency model is no better guide: it is fitted to whole networks, and cannot tell apart what all of them share.

    Args:
        whole_ms: the network's latency in ms, measured or predicted.
        steps: the kernels that it calls, with the layers of each; see ``kernel_steps``.
        costs: time of each kernel alone in ms, by key.
        tuned: keys of the kernels whose time was measured.
    """
    scale = whole_ms / sum(costs[kernel.key] for _, kernel in steps)
    return [
        Part(layers, kernel.key, scale * costs[kernel.key], costs[kernel.key], kernel.key in tuned)
        for layers, kernel in steps
    ]
