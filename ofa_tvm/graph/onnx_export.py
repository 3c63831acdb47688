"""From NetworkSpec and weights to ONNX, for comparison with other engines.

The weights of a quantised network (``graph.quantisation``) give its QDQ form: the same levels, as QuantizeLinear and
DequantizeLinear around each tensor, so that other engines compute what int8 kernels do up to the rounding of float32.
Layers that stay float32 (``graph.mixed``) have none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ofa_tvm.graph.fusion import HIDDEN, SUMS
from ofa_tvm.graph.mixed import kept_layers
from ofa_tvm.graph.network import INPUT, Activation, LayerSpec, NetworkSpec
from ofa_tvm.graph.quantisation import symmetric
from ofa_tvm.graph.weights import Weights, weight_shapes

OPSET = 17
IR_VERSION = 8
ZERO, SIX = "zero", "six"
"""Names of the bounds of ReLU6."""
OPERATORS: Mapping[Activation, str] = {"relu": "Relu", "hard_swish": "HardSwish", "sigmoid": "Sigmoid"}
"""Activations that are one operator without attributes."""
IMAGE = "image"
LOGITS = "logits"

Attribute = int | float | list[int]
Attributes = Mapping[str, Attribute]


class _Graph:
    """Nodes and constants of a network."""

    def __init__(self, network: NetworkSpec, weights: Weights) -> None:
        self._weights, self._kept = weights, kept_layers(weights)
        self._centred: dict[str, str] = {}
        self._layer_name = INPUT
        self.owners = {IMAGE: INPUT}
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[onnx.TensorProto] = []
        exact = {INPUT: IMAGE}
        values = {INPUT: self._levels(INPUT, IMAGE)}
        if any("relu6" in (layer.activation, layer.hidden_activation) for layer in network.layers):
            self._constant(ZERO, np.float32(0))
            self._constant(SIX, np.float32(6))
        for layer in network.layers:
            self._layer_name = layer.name
            is_last = layer is network.layers[-1]
            # What a float32 layer hands a float32 layer never becomes levels.
            source = {**values, **exact} if layer.name in self._kept else values
            residual = None if layer.residual is None else source[layer.residual]
            output = LOGITS if is_last else layer.name
            if layer.kind == "squeeze_excite":
                self._squeeze_excite(layer, source[layer.input])
            else:
                self._layer(layer, source[layer.input], residual, output)
            values[layer.name] = output if is_last else self._levels(layer.name, output)
            if layer.name in self._kept:
                exact[layer.name] = output

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Attribute) -> str:
        name = f"{self._layer_name}/{operator}_{len(self.nodes)}"
        self.owners |= {name: self._layer_name, output: self._layer_name}
        node = helper.make_node(operator, inputs, [output], name)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)
        return output

    def _constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        self.arrays.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _levels(self, tensor: str, value: str) -> str:
        """A tensor that has passed through its levels, if it has any."""
        if f"{tensor}.scale" not in self._weights:
            return value
        scale, zero = self._weights[f"{tensor}.scale"], self._weights[f"{tensor}.zero"]
        if scale.size == 1:
            return self._passed(tensor, value, scale[0], zero[0])
        # ONNX Runtime 1.32 fuses operators that refuse scales by channel, so these stand beside as products and sums.
        shape = (1, scale.size, 1, 1)
        by = self._constant(f"{tensor}.scale", scale.reshape(shape))
        zeros = self._constant(f"{tensor}.zeros", zero.reshape(shape))
        shifted = self._add("Add", [self._add("Div", [value, by], f"{tensor}.divided"), zeros], f"{tensor}.shifted")
        levels = self._passed(f"{tensor}.each", shifted, np.float32(1), np.float32(0))
        self._centred[tensor] = self._add("Sub", [levels, zeros], f"{tensor}.centred")
        return self._add("Mul", [self._centred[tensor], by], f"{tensor}.real")

    def _passed(self, tensor: str, value: str, scale: np.float32, zero: np.float32) -> str:
        ends = [self._constant(f"{tensor}.scale", scale), self._constant(f"{tensor}.zero", np.uint8(zero))]
        quantised = self._add("QuantizeLinear", [value, *ends], f"{tensor}.quantised")
        return self._add("DequantizeLinear", [quantised, *ends], f"{tensor}.levels")

    def _affine(self, layer: LayerSpec, part: str = "", source: str | None = None) -> list[str]:
        """The names of a layer's weight and bias; s8 where the tensor that they meet has levels."""
        prefix = f"{layer.name}.{part}"
        names = [name for name in weight_shapes(layer) if name.startswith(prefix)]
        has_levels = f"{source or layer.input}.scale" in self._weights and layer.name not in self._kept
        for name in names:
            array = self._weights[name]
            # The dense layers of squeeze-excite run as 1x1 convolutions.
            is_pointwise = layer.kind == "squeeze_excite" and array.ndim == 2
            shaped = np.ascontiguousarray(array[:, :, None, None] if is_pointwise else array, dtype=np.float32)
            if array.ndim > 1 and has_levels:
                if layer.kind == "conv" and layer.input in self._centred:  # weights take up the scales by channel
                    shaped = shaped * self._weights[f"{layer.input}.scale"].reshape(1, -1, 1, 1)
                quantised, scale = symmetric(shaped.astype(np.float64), tuple(range(1, shaped.ndim)))
                parts = [
                    self._constant(f"{name}.quantised", quantised),
                    self._constant(f"{name}.scale", scale.astype(np.float32)),
                ]
                self._add("DequantizeLinear", parts, name, axis=0)
            else:
                self._constant(name, shaped)
        return names

    def _squeeze_excite(self, layer: LayerSpec, input_map: str) -> None:
        name = layer.name
        sums, hidden = layer.input + SUMS, name + HIDDEN
        pooled = self._levels(sums, self._add("GlobalAveragePool", [input_map], f"{name}.pooled"))
        reduced = self._add("Conv", [pooled, *self._affine(layer, "reduce", sums)], f"{name}.reduced")
        activated = self._activated(layer.hidden_activation, reduced, f"{name}.activated")
        expand = self._affine(layer, "expand", hidden)
        expanded = self._add("Conv", [self._levels(hidden, activated), *expand], f"{name}.expanded")
        self._add("Mul", [input_map, self._activated(layer.gate, expanded, f"{name}.gate")], name)

    def _activated(self, activation: Activation, value: str, output: str) -> str:
        match activation:
            case "none":
                return self._add("Identity", [value], output)
            case "relu6":
                return self._add("Clip", [value, ZERO, SIX], output)
            case "hard_sigmoid":
                return self._add("HardSigmoid", [value], output, alpha=1 / 6, beta=0.5)
            case "silu":
                return self._add("Mul", [value, self._add("Sigmoid", [value], f"{output}.gate")], output)
            case "gelu":
                scaled = self._add("Mul", [value, self._shared("root", 0.5**0.5)], f"{output}.scaled")
                erf = self._add("Erf", [scaled], f"{output}.erf")
                shifted = self._add("Add", [erf, self._shared("one", 1.0)], f"{output}.shifted")
                half = self._add("Mul", [value, self._shared("half", 0.5)], f"{output}.half")
                return self._add("Mul", [half, shifted], output)
            case _:
                return self._add(OPERATORS[activation], [value], output)

    def _shared(self, name: str, number: float) -> str:
        """A constant that several nodes read."""
        if all(array.name != name for array in self.arrays):
            self._constant(name, np.float32(number))
        return name

    def _layer(self, layer: LayerSpec, input_map: str, residual: str | None, output: str) -> None:
        steps: list[tuple[str, list[str], Attributes]] = []
        match layer.kind:
            case "global_pool":
                steps.append(("GlobalAveragePool", [], {}))
            case "max_pool" | "average_pool":
                operator = "MaxPool" if layer.kind == "max_pool" else "AveragePool"
                steps.append((operator, [], _window(layer)))
            case "linear":
                steps.append(("Flatten", [], {}))
                steps.append(("Gemm", self._affine(layer), {"transB": 1}))
            case "conv" | "depthwise":
                groups = layer.out_channels if layer.kind == "depthwise" else layer.groups
                steps.append(("Conv", self._affine(layer), {**_window(layer), "group": groups}))
        if residual is not None:
            steps.append(("Add", [residual], {}))
        is_centred = layer.kind == "conv" and layer.name not in self._kept
        value = self._centred.get(layer.input, input_map) if is_centred else input_map
        is_activated = layer.activation != "none"
        for index, (operator, others, attributes) in enumerate(steps, 1):
            is_last = index == len(steps) and not is_activated
            value = self._add(
                operator, [value, *others], output if is_last else f"{layer.name}.step{index}", **attributes
            )
        if is_activated:
            self._activated(layer.activation, value, output)


def _window(layer: LayerSpec) -> Attributes:
    return {
        "kernel_shape": [layer.kernel_size] * 2,
        "pads": [pad for pad in layer.pads for _ in "yx"],
        "strides": [layer.stride] * 2,
    }


def node_layers(network: NetworkSpec, weights: Weights) -> dict[str, str]:
    """The layer of each node, by its name and by what it writes; of the image, ``INPUT``."""
    return _Graph(network, weights).owners


def layer_of(node: str, owners: Mapping[str, str]) -> str | None:
    """The layer that an engine's node belongs to; None if it is of none of them.

    Args:
        node: its name, also as an engine has changed it: with words before ("fused stem/Conv_0") or an end of its own
            ("block1_expand_nchwc", "stem/Conv_0/WithoutBiases").
        owners: see ``node_layers``.
    """
    name = node.rpartition(" ")[2]
    while name and name not in owners:
        name = re.sub(r"[_/.]?[^_/.]*$", "", name)
    return owners.get(name)


def to_onnx(network: NetworkSpec, weights: Weights, batch: int = 1) -> onnx.ModelProto:
    """An ONNX model (opset 17) of a subnet.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``, with scales for its QDQ form.
        batch: images per call.

    Returns:
        A model from ``image`` (batch, in_channels, resolution, resolution), normalised float32, to ``logits``
        (batch, classes).
    """
    built = _Graph(network, weights)
    image_shape = [batch, network.in_channels, network.resolution, network.resolution]
    graph = helper.make_graph(
        built.nodes,
        "subnet",
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, image_shape)],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, [batch, network.classes])],
        built.arrays,
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ofa_tvm")
