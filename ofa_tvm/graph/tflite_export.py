"""From NetworkSpec and weights to a ``.tflite`` file, which LiteRT runs with XNNPACK.

Maps are NHWC, as ours are. Where our zeros around a map are not TensorFlow's, they are an operator of their own, as in
converted PyTorch models. A hard sigmoid is ReLU6 of a sum, and its sixth is left to the weights that read the result.
XNNPACK has no int8 hard-swish, so in int8 it is that sum and a product: all operators are XNNPACK's then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import INPUT, Activation, LayerSpec, NetworkSpec
from ofa_tvm.graph.tflite_file import Levels, Ranges, Shape, Tensor, TfliteFile
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.errors import UserError

IMAGE, LOGITS = "image", "logits"
FUSED: Mapping[Activation, str] = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}
"""Activations that are part of the operator before them."""
SINGLE: Mapping[Activation, str] = {
    "relu": "RELU",
    "relu6": "RELU6",
    "hard_swish": "HARD_SWISH",
    "sigmoid": "LOGISTIC",
    "gelu": "GELU",
}
"""Activations that are an operator."""
POSITIVE = ("relu", "relu6")
SIX = 6.0
GATE_LEVELS = Levels(1 / 256, -128)
"""The only ones that a sigmoid may have."""

Affine = tuple[NDArray[np.float32], NDArray[np.float32]]
"""A weight in TensorFlow's order, and its bias."""


@dataclass(frozen=True)
class _Window:
    """What an operator reads of a map; ``padding`` in TensorFlow's words."""

    stride: int
    padding: Literal["SAME", "VALID"]

    def out_size(self, size: int, kernel: int) -> int:
        """Height of the output of a map of this height."""
        return -(-size // self.stride) if self.padding == "SAME" else (size - kernel) // self.stride + 1


POINT = _Window(1, "VALID")


class _Graph:
    def __init__(self, network: NetworkSpec, weights: Weights, ranges: Ranges | None, is_for_int8: bool) -> None:
        self.file = TfliteFile(ranges)
        self._weights, self._is_for_int8 = weights, is_for_int8
        self._layers = {layer.name: layer for layer in network.layers}
        file, size = self.file, network.resolution
        self.image = image = file.tensor(IMAGE, (1, size, size, network.in_channels))
        if ranges is not None:
            image = file.add("QUANTIZE", [image], f"{IMAGE}/levels", image.shape, file.levels(IMAGE))
        values = {INPUT: image}
        for layer in network.layers:
            name = LOGITS if layer is network.layers[-1] else layer.name
            values[layer.name] = self._layer(layer, name, values)
        self.logits = logits = self._plain(values[network.layers[-1].name])
        if ranges is not None:
            self.logits = file.add("DEQUANTIZE", [logits], f"{LOGITS}/float", logits.shape, None)

    def _layer(self, layer: LayerSpec, name: str, values: Mapping[str, Tensor]) -> Tensor:
        source = values[layer.input]
        residual = None if layer.residual is None else values[layer.residual]
        match layer.kind:
            case "squeeze_excite":
                return self._squeeze_excite(layer, name, source)
            case "conv" | "depthwise" | "linear" if residual is None:
                return self._product(layer, name, source, layer.activation)
            case "conv" | "depthwise" | "linear":
                value = self._product(layer, f"{layer.name}/product", source, "none")
            case "global_pool":
                value = self._mean(f"{layer.name}/mean", source)
            case _:
                value = self._pool(layer, source)
        if residual is not None:
            return self._sum(name, [value, residual], layer.activation)
        return self._activated(name, value, layer.activation)

    def _product(self, layer: LayerSpec, name: str, source: Tensor, activation: Activation) -> Tensor:
        weight = self._weights[f"{layer.name}.weight"]
        bias = self._weights.get(f"{layer.name}.bias", np.zeros(layer.out_channels, np.float32))
        if layer.kind == "linear":
            size = layer.in_size
            rows = weight.reshape(-1, layer.in_channels, size, size).transpose(0, 2, 3, 1).reshape(weight.shape)
            return self._affine("FULLY_CONNECTED", name, source, (rows, bias), POINT, activation)
        source, window = self._padded(layer, source)
        if layer.kind == "depthwise":
            arrays = weight.transpose(1, 2, 3, 0), bias
            return self._affine("DEPTHWISE_CONV_2D", name, source, arrays, window, activation)
        return self._affine("CONV_2D", name, source, (weight.transpose(0, 2, 3, 1), bias), window, activation)

    def _affine(
        self, operator: str, name: str, source: Tensor, arrays: Affine, window: _Window, activation: Activation
    ) -> Tensor:
        """A product with a weight, its bias, and an activation."""
        weight, bias = arrays
        if activation == "hard_sigmoid":
            six = self._affine(operator, name, source, (weight, bias + np.float32(SIX / 2)), window, "relu6")
            return replace(six, factor=SIX)
        own = name if activation in FUSED else f"{name}/linear"
        shape: Shape = (1, bias.size)
        if operator != "FULLY_CONNECTED":
            size = window.out_size(source.shape[1], weight.shape[1])
            shape = (1, size, size, bias.size)
        weight = weight / np.float32(source.factor)
        constants = self.file.weight(own, (weight, bias), 3 if operator.startswith("DEPTHWISE") else 0, source.levels)
        options = self._options(operator, window, activation)
        value = self.file.add(operator, [source, *constants], own, shape, self.file.levels(own), options)
        return value if activation in FUSED else self._activated(name, value, activation)

    def _options(self, operator: str, window: _Window, activation: Activation) -> Any:
        schema, function = self.file.schema, self._function(activation)
        if operator == "FULLY_CONNECTED":
            return schema.FullyConnectedOptionsT(function)
        common = getattr(schema.Padding, window.padding), window.stride, window.stride
        if operator == "CONV_2D":
            return schema.Conv2DOptionsT(*common, function)
        return schema.DepthwiseConv2DOptionsT(*common, 1, function)

    def _function(self, activation: Activation) -> Any:
        return getattr(self.file.schema.ActivationFunctionType, FUSED.get(activation, "NONE"))

    def _padded(self, layer: LayerSpec, source: Tensor) -> tuple[Tensor, _Window]:
        """What a layer's window reads, with zeros around it where TensorFlow's padding is another."""
        if layer.pads == (0, 0):
            return source, _Window(layer.stride, "VALID")
        if layer.pads == same_pads(layer):
            return source, _Window(layer.stride, "SAME")
        pads = np.asarray([(0, 0), layer.pads, layer.pads, (0, 0)], np.int32)
        inputs = [source, self.file.constant(f"{layer.name}/pads", pads)]
        size = source.shape[1] + sum(layer.pads)
        shape = (1, size, size, source.shape[3])
        options = self.file.schema.PadOptionsT()
        padded = self.file.add("PAD", inputs, f"{layer.name}/padded", shape, source.levels, options)
        return replace(padded, factor=source.factor), _Window(layer.stride, "VALID")

    def _pool(self, layer: LayerSpec, source: Tensor) -> Tensor:
        producer = self._layers.get(layer.input)
        is_positive = producer is not None and producer.activation in POSITIVE
        is_largest = layer.kind == "max_pool" and (is_positive or layer.pads == same_pads(layer))
        if layer.pads != (0, 0) and not is_largest:
            raise UserError(
                f"{layer.name}: TensorFlow Lite has no {layer.kind} with such zeros around its map",
                "leave litert out of --against",
            )
        source, window = self._padded(layer, source)
        padding, size = getattr(self.file.schema.Padding, window.padding), layer.kernel_size
        options = self.file.schema.Pool2DOptionsT(padding, window.stride, window.stride, size, size)
        shape = (1, layer.out_size, layer.out_size, layer.out_channels)
        operator = "MAX_POOL_2D" if layer.kind == "max_pool" else "AVERAGE_POOL_2D"
        pooled = self.file.add(operator, [source], f"{layer.name}/pooled", shape, source.levels, options)
        return replace(pooled, factor=source.factor)

    def _mean(self, name: str, source: Tensor) -> Tensor:
        axes = self.file.constant(f"{name}/axes", np.asarray([1, 2], np.int32))
        shape, options = (1, 1, 1, source.shape[3]), self.file.schema.ReducerOptionsT(True)
        mean = self.file.add("MEAN", [source, axes], name, shape, self.file.levels(name), options)
        return replace(mean, factor=source.factor)

    def _squeeze_excite(self, layer: LayerSpec, name: str, source: Tensor) -> Tensor:
        value = self._mean(f"{layer.name}/mean", source)
        for part, activation in (("reduce", layer.hidden_activation), ("expand", layer.gate)):
            weight, bias = (self._weights[f"{layer.name}.{part}.{kind}"] for kind in ("weight", "bias"))
            arrays = weight[:, None, None, :], bias
            value = self._affine("CONV_2D", f"{layer.name}/{part}", value, arrays, POINT, activation)
        return self._times(name, source, value)

    def _times(self, name: str, source: Tensor, other: Tensor) -> Tensor:
        options, levels = self.file.schema.MulOptionsT(), self.file.levels(name)
        product = self.file.add("MUL", [source, other], name, source.shape, levels, options)
        return replace(product, factor=source.factor * other.factor)

    def _plain(self, source: Tensor) -> Tensor:
        """A tensor that holds what it stands for."""
        if source.factor == 1:
            return source
        name = f"{self.file.name(source)}/plain"
        return replace(self._times(name, source, self.file.number(f"{name}/factor", 1 / source.factor)), factor=1.0)

    def _sum(self, name: str, values: list[Tensor], activation: Activation) -> Tensor:
        own = name if activation in FUSED else f"{name}/linear"
        values, options = [self._plain(value) for value in values], self.file.schema.AddOptionsT()
        options.fusedActivationFunction = self._function(activation)
        value = self.file.add("ADD", values, own, values[0].shape, self.file.levels(own), options)
        return value if activation in FUSED else self._activated(name, value, activation)

    def _activated(self, name: str, source: Tensor, activation: Activation) -> Tensor:
        """An activation that no operator before it computes."""
        if activation == "none":
            return source
        source = self._plain(source)
        if activation == "hard_sigmoid":
            three = self.file.number(f"{name}/three", SIX / 2)
            return replace(self._sum(name, [source, three], "relu6"), factor=SIX)
        if activation == "silu":
            return self._times(name, source, self._activated(f"{name}/gate", source, "sigmoid"))
        if activation == "hard_swish" and self._is_for_int8:
            return self._times(name, source, self._activated(f"{name}/gate", source, "hard_sigmoid"))
        levels = self.file.levels(name)
        if levels is not None and activation == "sigmoid":
            levels = GATE_LEVELS
        options = self.file.schema.GeluOptionsT(False) if activation == "gelu" else None
        return self.file.add(SINGLE[activation], [source], name, source.shape, levels, options)


def same_pads(layer: LayerSpec) -> tuple[int, int]:
    """Zeros before and behind a map where TensorFlow's padding is SAME."""
    out_size = -(-layer.in_size // layer.stride)
    total = max((out_size - 1) * layer.stride + layer.kernel_size - layer.in_size, 0)
    return total // 2, total - total // 2


def to_tflite(network: NetworkSpec, weights: Weights, ranges: Ranges | None = None, is_for_int8: bool = False) -> bytes:
    """A ``.tflite`` file of a subnet; needs LiteRT's package.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``, in float32.
        ranges: of the tensors of the float32 file that is for int8; then the network is int8.
        is_for_int8: in float32, but of the operators of the int8 file, to see ranges of their tensors.

    Returns:
        A model from ``image`` (1, resolution, resolution, in_channels), normalised float32, to logits (1, classes).

    Raises:
        UserError: TensorFlow Lite has no such layer.
    """
    graph = _Graph(network, weights, ranges, is_for_int8 or ranges is not None)
    return graph.file.content(graph.image, graph.logits)
