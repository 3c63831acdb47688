"""Where a subnet's predicted latency goes: its calls of kernels, each with its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.spaces.block_table import block_number

APART = 1.5


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
    model: LatencyModel,
    config: SubnetConfig,
    steps: Sequence[tuple[tuple[str, ...], KernelSpec]],
    costs: Mapping[str, float],
    tuned: set[str],
) -> list[Part]:
    """The calls of a subnet in order; their predicted times add up to the model's prediction.

    The model knows what each block takes within a network; inside a block, and among the layers outside blocks, that
    time is split in proportion to the kernels' times alone. What all measured subnets share cannot be told apart by
    measuring subnets, so no part may be slower or faster than its kernels alone by more than ``APART`` times the whole.

    Args:
        model: the latency model.
        config: the subnet.
        steps: the kernels that it calls, with the layers of each; see ``kernel_steps``.
        costs: time of each kernel alone in ms, by key.
        tuned: keys of the kernels whose time was measured.
    """
    space = model.table.space
    genome = space.genomes([config])
    fixed, blocks = model.block_times
    resolution, _, kernel, expand = (part[0] for part in space.split_genes(genome))
    choices = 1 + kernel.astype(np.intp) * len(space.expand_choices) + expand
    numbers = [block_number(space, layers[-1]) for layers, _ in steps]
    alone_ms = np.asarray([costs[kernel.key] for _, kernel in steps])
    shares, whole_ms = np.empty(len(steps)), float(model.mean_ms(genome)[0])
    usual = whole_ms / alone_ms.sum()
    for number in set(numbers):
        inside = np.asarray(numbers) == number
        part_ms = blocks[resolution, number - 1, choices[number - 1]] if number else fixed[resolution]
        times = np.clip(part_ms / alone_ms[inside].sum(), usual / APART, usual * APART)
        shares[inside] = times * alone_ms[inside]
    return _parts(shares, whole_ms, alone_ms, steps, tuned)


def proportional(
    whole_ms: float,
    steps: Sequence[tuple[tuple[str, ...], KernelSpec]],
    costs: Mapping[str, float],
    tuned: set[str],
) -> list[Part]:
    """The calls of a network of which only the whole latency is known, split as their kernels' times alone."""
    alone_ms = np.asarray([costs[kernel.key] for _, kernel in steps])
    return _parts(alone_ms, whole_ms, alone_ms, steps, tuned)


def _parts(
    shares: NDArray[np.float64],
    whole_ms: float,
    alone_ms: NDArray[np.float64],
    steps: Sequence[tuple[tuple[str, ...], KernelSpec]],
    tuned: set[str],
) -> list[Part]:
    scaled = shares * (whole_ms / shares.sum())
    return [
        Part(layers, kernel.key, float(share), float(alone), kernel.key in tuned)
        for (layers, kernel), share, alone in zip(steps, scaled, alone_ms, strict=True)
    ]
