"""The kernels of a network where TVM schedules: one for each layer, see ``kernel``."""

from __future__ import annotations

from ofa_tvm.graph.kernel import KernelSpec, layer_kernel
from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError

SCHEDULED_ACTIVATIONS = ("none", "relu", "relu6", "hard_swish", "hard_sigmoid")


def _refuse_scheduled(layer: LayerSpec) -> None:
    """Refuse a layer that TVM schedules nowhere here.

    Raises:
        UserError: it is one.
    """
    activations = (layer.activation, layer.hidden_activation, layer.gate)
    troubles = {
        f"a {layer.kind.replace('_', ' ')}": layer.kind in ("max_pool", "average_pool"),
        " or ".join(activations): any(one not in SCHEDULED_ACTIVATIONS for one in activations),
        "groups": layer.groups > 1,
        "a map without padding": layer.padding == "none" and layer.kernel_size > 1,
        "a flattened map": layer.kind == "linear" and layer.in_size > 1,
    }
    found = [name for name, is_so in troubles.items() if is_so]
    if found:
        raise UserError(f"layer {layer.name}: there is no kernel for {found[0]} on GPUs", "give a target with a CPU")


def network_kernels(
    network: NetworkSpec, batch: int = 1, dtype: DType = "float32"
) -> tuple[tuple[str, KernelSpec], ...]:
    """(layer name, kernel) of a subnet in the order in which they run."""
    for layer in network.layers:
        _refuse_scheduled(layer)
    gates = {layer.name for layer in network.layers if layer.kind == "squeeze_excite"}
    return tuple((layer.name, layer_kernel(layer, batch, layer.input in gates, dtype)) for layer in network.layers)
