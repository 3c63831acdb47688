"""From NetworkSpec and weights to ONNX, for comparison with other engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import Weights, weight_shapes

OPSET = 17
IR_VERSION = 8
ZERO, SIX = "zero", "six"
"""Names of the bounds of ReLU6."""
IMAGE = "image"
LOGITS = "logits"


def _squeeze_excite_nodes(layer: LayerSpec, input_map: str, output: str) -> list[onnx.NodeProto]:
    name = layer.name
    pooled, reduced, hidden, expanded, gate = (
        f"{name}.{part}" for part in ("pooled", "reduced", "hidden", "expanded", "gate")
    )
    return [
        helper.make_node("GlobalAveragePool", [input_map], [pooled]),
        helper.make_node("Conv", [pooled, f"{name}.reduce.weight", f"{name}.reduce.bias"], [reduced]),
        helper.make_node("Relu", [reduced], [hidden]),
        helper.make_node("Conv", [hidden, f"{name}.expand.weight", f"{name}.expand.bias"], [expanded]),
        helper.make_node("HardSigmoid", [expanded], [gate], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", [input_map, gate], [output]),
    ]


def _layer_nodes(layer: LayerSpec, input_map: str, residual: str | None, output: str) -> list[onnx.NodeProto]:
    name = layer.name
    if layer.kind == "squeeze_excite":
        return _squeeze_excite_nodes(layer, input_map, output)
    affine = [f"{name}.weight", f"{name}.bias"] if layer.norm or layer.bias else [f"{name}.weight"]
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    match layer.kind:
        case "global_pool":
            steps.append(("GlobalAveragePool", [], {}))
        case "linear":
            steps.append(("Flatten", [], {}))
            steps.append(("Gemm", affine, {"transB": 1}))
        case "conv" | "depthwise":
            attributes = {
                "kernel_shape": [layer.kernel_size] * 2,
                "pads": [pad for pad in layer.pads for _ in "yx"],
                "strides": [layer.stride] * 2,
                "group": layer.out_channels if layer.kind == "depthwise" else 1,
            }
            steps.append(("Conv", affine, attributes))
    if residual is not None:
        steps.append(("Add", [residual], {}))
    if layer.activation == "relu6":
        steps.append(("Clip", [ZERO, SIX], {}))
    elif layer.activation != "none":
        steps.append(({"relu": "Relu", "hard_swish": "HardSwish"}[layer.activation], [], {}))
    names = [input_map, *(f"{name}.step{index}" for index in range(1, len(steps))), output]
    return [
        helper.make_node(operator, [before, *others], [after], **attributes)
        for (operator, others, attributes), before, after in zip(steps, names, names[1:], strict=False)
    ]


def to_onnx(network: NetworkSpec, weights: Weights, batch: int = 1) -> onnx.ModelProto:
    """An ONNX model (opset 17) of a subnet.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``.
        batch: images per call.

    Returns:
        A model from ``image`` (batch, in_channels, resolution, resolution), normalised float32, to ``logits``
        (batch, classes).
    """
    values = {INPUT: IMAGE, **{layer.name: layer.name for layer in network.layers}}
    values[network.layers[-1].name] = LOGITS
    nodes: list[onnx.NodeProto] = []
    arrays: list[onnx.TensorProto] = []
    if any(layer.activation == "relu6" for layer in network.layers):
        arrays += [
            numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in ((ZERO, 0), (SIX, 6))
        ]
    for layer in network.layers:
        residual = None if layer.residual is None else values[layer.residual]
        nodes += _layer_nodes(layer, values[layer.input], residual, values[layer.name])
        for name, shape in weight_shapes(layer).items():
            array = weights[name]
            # The dense layers of squeeze-excite run as 1x1 convolutions.
            is_pointwise = layer.kind == "squeeze_excite" and len(shape) == 2
            shaped = array[:, :, None, None] if is_pointwise else array
            arrays.append(numpy_helper.from_array(np.ascontiguousarray(shaped, dtype=np.float32), name))
    image_shape = [batch, network.in_channels, network.resolution, network.resolution]
    graph = helper.make_graph(
        nodes,
        "subnet",
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, image_shape)],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, network.classes])],
        arrays,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ofa_tvm")
