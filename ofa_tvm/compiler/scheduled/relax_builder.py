"""From NetworkSpec and weights to a Relax module: one call per kernel, weights bound as constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.scheduled.kernel_tir import cast_function, kernel_function
from ofa_tvm.compiler.tvm_api.names import IRModule, relax
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType


def kernel_constants(layer: LayerSpec, weights: Weights) -> list[NDArray[np.float32]]:
    """A layer's arrays in the order and layouts of ``KernelSpec.weight_shapes``."""
    name = layer.name
    match layer.kind:
        case "global_pool":
            return []
        case "squeeze_excite":
            parts = [f"{name}.reduce.weight", f"{name}.reduce.bias", f"{name}.expand.weight", f"{name}.expand.bias"]
            arrays = [weights[part].T for part in parts]
        case "conv":
            arrays = [weights[f"{name}.weight"].transpose(2, 3, 1, 0)]
        case "depthwise":
            arrays = [weights[f"{name}.weight"][:, 0].transpose(1, 2, 0)]
        case "linear":
            arrays = [weights[f"{name}.weight"].T]
    if layer.norm or layer.bias:
        arrays.append(weights[f"{name}.bias"])
    return [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]


def _cast(builder: Any, value: Any, shape: tuple[int, ...], to: DType) -> Any:
    """A call of our own cast function, because TVM cannot fuse its cast with our kernels: it indexes with int64."""
    function = cast_function(shape, to).without_attr("global_symbol")
    return relax.call_tir(builder.add_func(function, f"to_{to}"), [value], relax.TensorType(shape, to))


def build_relax(network: NetworkSpec, weights: Weights, batch: int = 1, dtype: DType = "float32") -> IRModule:
    """A module whose ``main`` runs the network.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``.
        batch: images per call.
        dtype: of maps and constants between the images and the logits.

    Returns:
        A module with one unscheduled function per distinct kernel, named by ``KernelSpec.symbol``, and ``main``: from
        normalised float32 images (batch, resolution, resolution, in_channels) to logits (batch, classes).
    """
    builder = relax.BlockBuilder()
    image_shape = (batch, network.resolution, network.resolution, network.in_channels)
    image = relax.Var("image", relax.TensorType(image_shape, "float32"))
    gates = {layer.name: layer for layer in network.layers if layer.kind == "squeeze_excite"}
    functions = {}
    with builder.function("main", [image]):
        with builder.dataflow():
            values = {INPUT: image if dtype == "float32" else builder.emit(_cast(builder, image, image_shape, dtype))}
            for layer, (name, spec) in zip(network.layers, network_kernels(network, batch, dtype), strict=True):
                if spec.key not in functions:
                    private = kernel_function(spec).without_attr("global_symbol")
                    functions[spec.key] = builder.add_func(private, spec.symbol)
                gate = gates.get(layer.input)
                sources = [layer.input] if gate is None else [gate.input, gate.name]
                arguments = [values[source] for source in sources]
                arguments += [relax.const(array.astype(dtype), dtype) for array in kernel_constants(layer, weights)]
                if layer.residual is not None:
                    arguments.append(values[layer.residual])
                call = relax.call_tir(functions[spec.key], arguments, relax.TensorType(spec.output_shape, dtype))
                values[name] = builder.emit(call, name)
            last = values[network.layers[-1].name]
            logits = builder.emit_output(
                last if dtype == "float32" else _cast(builder, last, spec.output_shape, "float32")
            )
        builder.emit_func_output(logits)
    return builder.get()
