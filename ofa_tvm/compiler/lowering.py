"""Which kernels a network becomes on a target: fused ones on a CPU, one a layer on a GPU."""

from __future__ import annotations

from ofa_tvm.graph.fusion import fused_kernels, fused_steps
from ofa_tvm.graph.kernel import KernelSpec, layer_kernels, network_kernels
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace


def kernel_steps(network: NetworkSpec, target: TargetSpec) -> list[tuple[tuple[str, ...], KernelSpec]]:
    """The kernels that a network calls, in order, each with the names of the layers that it computes."""
    if target.target.gpu is not None:
        return [((layer,), kernel) for layer, kernel in network_kernels(network, target.batch, target.dtype)]
    return [(step.layers, step.kernel) for step in fused_steps(network)]


def kernel_calls(network: NetworkSpec, target: TargetSpec) -> list[KernelSpec]:
    """The kernels that a network calls, in order."""
    return [kernel for _, kernel in kernel_steps(network, target)]


def kernel_set(space: SearchSpace, resolutions: tuple[int, ...] | None, target: TargetSpec) -> dict[str, KernelSpec]:
    """The closed set of kernels of a space, by key."""
    if target.target.gpu is not None:
        return layer_kernels(space, resolutions, target.batch, target.dtype)
    return fused_kernels(space, resolutions)
