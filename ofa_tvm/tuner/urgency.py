"""Which kernel to try next: how often subnets call it, and what another trial may gain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.graph.fusion import fused_calls
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.tuner.trial import KernelState

SAMPLED_SUBNETS = 200
ENOUGH = 0.05


def kernel_frequencies(
    space: SearchSpace,
    resolutions: tuple[int, ...],
    seed: int = 0,
    kernels: Mapping[str, KernelSpec] | None = None,
    calls: Callable[[NetworkSpec], Iterable[KernelSpec]] = fused_calls,
) -> dict[str, float]:
    """Mean calls of each kernel in a random subnet of the given resolutions (at least a small number).

    Args:
        space: the space.
        resolutions: input sizes.
        seed: of the subnets.
        kernels: all that ``calls`` can give (default: the fused ones).
        calls: the kernels that a network calls.
    """
    rng = np.random.default_rng(seed)
    counts = dict.fromkeys(kernels or fused_kernels(space, resolutions), 0.2 / SAMPLED_SUBNETS)
    indices = [space.resolutions.index(resolution) for resolution in resolutions]
    genomes = space.sample(rng, SAMPLED_SUBNETS)
    genomes[:, 0] = rng.choice(indices, SAMPLED_SUBNETS)
    for genome in genomes:
        for kernel in calls(space.network(space.config(genome))):
            counts[kernel.key] += 1 / SAMPLED_SUBNETS
    return counts


def patience(state: KernelState, batch: int) -> float:
    """How much a kernel still promises: halves with every batch without a gain, and ends at 0."""
    left: float = 0.5 ** (state.since_best / batch)
    return left if left >= ENOUGH else 0.0


def urgency(
    kernels: Mapping[str, KernelSpec],
    frequencies: Mapping[str, float],
    states: Mapping[str, KernelState],
    trials_per_kernel: int,
    batch: int,
) -> list[str]:
    """Kernels that still promise something, each once: untried ones first, then by expected gain."""
    untried = [key for key in kernels if key not in states]
    untried.sort(key=lambda key: -frequencies[key] * kernels[key].flops)
    gains = {
        key: frequencies[key] * (states[key].best_ms or 1.0) * patience(states[key], batch)
        for key in kernels
        if key in states and states[key].trials < trials_per_kernel
    }
    promising = [key for key, gain in gains.items() if gain > 0]
    return [*untried, *sorted(promising, key=lambda key: -gains[key])]
