"""The closed sets of kernels of a space: fused ones, or one a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ofa_tvm.graph.fusion import Expands, always, fused_calls
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.dtype import DType


def every_kernel(
    space: SearchSpace, resolutions: tuple[int, ...] | None, kernels_of: Callable[[NetworkSpec], Iterable[KernelSpec]]
) -> dict[str, KernelSpec]:
    """Every kernel that some subnet of the space needs, by key, in a fixed order.

    A block's kernels depend only on its position and its own kernel size and expand ratio, because stage widths
    are fixed; and a shallower stage is the beginning of a deeper one. So the deepest subnets with one choice
    everywhere contain them all.

    Args:
        space: the space.
        resolutions: input sizes in pixels (default: all of the space).
        kernels_of: the kernels of one subnet.
    """
    kernels: dict[str, KernelSpec] = {}
    for resolution in resolutions or space.resolutions:
        for kernel_size in space.kernel_choices:
            for expand_ratio in space.expand_choices:
                config = space.uniform(resolution, space.max_depth, kernel_size, expand_ratio)
                for kernel in kernels_of(space.network(config)):
                    kernels.setdefault(kernel.key, kernel)
    return kernels


def layer_kernels(
    space: SearchSpace, resolutions: tuple[int, ...] | None = None, batch: int = 1, dtype: DType = "float32"
) -> dict[str, KernelSpec]:
    """``every_kernel`` where each layer is one."""
    return every_kernel(
        space, resolutions, lambda network: (kernel for _, kernel in network_kernels(network, batch, dtype))
    )


def fused_kernels(
    space: SearchSpace,
    resolutions: tuple[int, ...] | None = None,
    dtype: DType = "float32",
    batch: int = 1,
    expands: Expands = always,
) -> dict[str, KernelSpec]:
    """The closed set of kernels of ``fused_steps``, by key."""
    return every_kernel(space, resolutions, lambda network: fused_calls(network, dtype, batch, expands))
