"""From operators to a NetworkSpec with folded weights: each layer takes the norm, residual and activation behind it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.adoption.activations import ACTIVATIONS, check_activation
from ofa_tvm.adoption.affine import affine_behind
from ofa_tvm.adoption.kinds import TAKEN
from ofa_tvm.adoption.operators import Operator, OperatorGraph, refused
from ofa_tvm.adoption.squeeze_excite import VIEWS, is_global_mean, matrix
from ofa_tvm.adoption.window import padding_of, stride_of
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec, Padding
from ofa_tvm.support.errors import UserError

Weights = dict[str, NDArray[np.float32]]
CHANNELS = 3
MOST_LETTERS = 40
"""Of what an operator is called, in a layer's name."""
MOST_PASSED = 64
"""Channels of maps that a convolution may pass on for the sake of a sum; for more it would cost too much."""


class Lowering:
    """Turns a graph's operators into layers, in their order.

    Raises:
        UserError: it does not read square colour images.
    """

    def __init__(self, graph: OperatorGraph) -> None:
        self._graph = graph
        shape = graph.shapes.get(graph.input, ())
        if len(shape) != 4 or shape[2] != shape[3]:
            raise UserError(
                f"the model reads images of shape {shape}", "square images (1, channels, size, size) are taken"
            )
        if shape[1] != CHANNELS:
            raise UserError(f"the model reads images of {shape[1]} channels", "red, green and blue are taken")
        self._channels, self._size = shape[1], shape[2]
        self._layers: list[LayerSpec] = []
        self._weights: Weights = {}
        self._tensors = {graph.input: INPUT}
        """From the model's tensors to our layers."""
        self._taken: set[Operator] = set()

    def result(self) -> tuple[NetworkSpec, Weights]:
        """The network and its weights."""
        for operator in self._graph.operators:
            if operator not in self._taken:
                self._lower(operator)
        last = self._layers[-1] if self._layers else None
        if last is None or last.out_size != 1 or self._tensors.get(self._graph.output) != last.name:
            raise UserError(
                f"the model's result '{self._graph.output}' is no vector of logits that its last layer gives",
                "classifiers that end in a linear layer are taken",
            )
        if last.kind not in ("conv", "linear"):
            raise UserError(f"the model ends in {last.kind.replace('_', ' ')}", "end it in a linear layer")
        if last.kind == "conv":
            self._layers[-1] = self._as_linear(last)
        network = NetworkSpec(self._size, self._channels, last.out_channels, tuple(self._layers))
        return network, self._weights

    def _as_linear(self, layer: LayerSpec) -> LayerSpec:
        """A last 1x1 convolution on a single pixel is a linear layer."""
        if layer.kernel_size > 1 or layer.in_size > 1 or layer.groups > 1 or layer.residual is not None:
            raise UserError(f"the model ends in a convolution on a map: {layer.name}", "end it in a linear layer")
        weight = f"{layer.name}.weight"
        self._weights[weight] = self._weights[weight][:, :, 0, 0]
        return replace(layer, kind="linear")

    def _lower(self, operator: Operator) -> None:
        kind = operator.kind
        if kind in VIEWS:
            self._view(operator)
        elif kind == "Conv":
            self._conv(operator)
        elif kind in ("Gemm", "MatMul"):
            self._linear(operator)
        elif kind == "SqueezeExcite":
            self._squeeze_excite(operator)
        elif is_global_mean(self._graph, operator):
            channels, size = self._map(operator)
            if size == 1:
                self._view(operator)
                return
            self._end(operator, LayerSpec("", "global_pool", self._source(operator), channels, channels, size))
        elif kind in ("MaxPool", "AveragePool"):
            self._pool(operator)
        elif kind == "Add":
            self._sum(operator)
        else:
            raise self._refusal(operator)

    def _refusal(self, operator: Operator) -> UserError:
        if operator.kind in ACTIVATIONS or operator.kind in ("BatchNormalization", "Clip", "Mul"):
            return refused(operator, "it does not follow a convolution or linear layer that it alone reads", TAKEN)
        return refused(operator, "there is no layer of this kind", f"taken are {TAKEN}")

    def _source(self, operator: Operator) -> str:
        name = self._tensors.get(operator.inputs[0])
        if name is None:
            raise refused(operator, f"it reads '{operator.inputs[0]}', which is no map", TAKEN)
        return name

    def _shape(self, name: str, operator: Operator) -> tuple[int, ...]:
        if name not in self._graph.shapes:
            raise refused(operator, f"the shape of '{name}' is not fixed", "export the model with fixed shapes")
        return self._graph.shapes[name]

    def _map(self, operator: Operator) -> tuple[int, int]:
        """Channels and size of the map that an operator reads."""
        shape = self._shape(operator.inputs[0], operator)
        if len(shape) == 2:
            return shape[1], 1
        if len(shape) != 4 or shape[2] != shape[3]:
            raise refused(operator, f"it reads a map of shape {shape}", "square maps are taken")
        return shape[1], shape[2]

    def _view(self, operator: Operator) -> None:
        before, after = self._shape(operator.inputs[0], operator), self._shape(operator.output, operator)
        if before[0] != after[0] or before[1] not in after[1:2] + ((before[1],) if len(after) == 2 else ()):
            raise refused(operator, f"it turns {before} into {after}", f"taken are {TAKEN}")
        self._tensors[operator.output] = self._source(operator)

    # Layers ---------------------------------------------------------------------------------------------------------

    def _conv(self, operator: Operator) -> None:
        weight, attributes = self._graph.weight(operator, 1), operator.attributes
        channels, size = self._map(operator)
        groups, outputs = int(attributes.get("group", 1)), len(weight)
        is_dilated = any(step != 1 for step in attributes.get("dilations", ()))
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or is_dilated:
            raise refused(operator, f"its window is {weight.shape[2:]}, or dilated", "square windows are taken")
        if groups < 1 or weight.shape[1] * groups != channels or outputs % groups:
            raise refused(operator, f"weights {weight.shape} in {groups} groups do not fit {channels} channels", TAKEN)
        is_depthwise = groups == channels == outputs and groups > 1
        layer = LayerSpec(
            "",
            "depthwise" if is_depthwise else "conv",
            self._source(operator),
            channels,
            outputs,
            size,
            weight.shape[2],
            stride_of(operator),
            padding=self._padding(operator, weight.shape[2], size),
            groups=1 if is_depthwise else groups,
        )
        bias = self._graph.weight(operator, 2) if len(operator.inputs) > 2 and operator.inputs[2] else None
        self._end(operator, layer, weight, bias)

    def _linear(self, operator: Operator) -> None:
        weight, bias = matrix(self._graph, operator)
        source = self._source(operator)
        before = next((layer for layer in self._layers if layer.name == source), None)
        if before is None:
            raise refused(operator, "it reads the image itself", "networks of convolutions are taken")
        size = before.out_size
        channels = before.out_channels
        if weight.shape[1] != channels * size**2:
            raise refused(operator, f"it reads {weight.shape[1]} numbers of {channels * size**2}", TAKEN)
        self._end(operator, LayerSpec("", "linear", source, channels, len(weight), size), weight, bias)

    def _squeeze_excite(self, operator: Operator) -> None:
        channels, size = self._map(operator)
        names = operator.inputs[1:]
        reduce, expand = self._graph.constants[names[0]], self._graph.constants[names[2]]
        if reduce.shape[1] != channels or len(expand) != channels or self._source(operator) == INPUT:
            raise refused(operator, "it scales other channels than it reads", TAKEN)
        layer = LayerSpec(
            "",
            "squeeze_excite",
            self._source(operator),
            channels,
            channels,
            size,
            hidden_channels=len(reduce),
            hidden_activation=operator.attributes["hidden_activation"],
            gate=operator.attributes["gate"],
        )
        reader = self._graph.only_reader(operator.output)
        if reader is None or reader.kind != "Conv" or self._graph.weight(reader, 1).shape[2:] != (1, 1):
            raise refused(operator, "something else than one 1x1 convolution reads it", "put one behind it")
        if stride_of(reader) > 1 or reader.attributes.get("group", 1) > 1:
            raise refused(operator, "a convolution with stride or groups reads it", "put a plain 1x1 one behind it")
        name = self._end(operator, layer)
        parts = ("reduce.weight", "reduce.bias", "expand.weight", "expand.bias")
        self._weights |= {f"{name}.{part}": self._graph.constants[one] for part, one in zip(parts, names, strict=True)}

    def _sum(self, operator: Operator) -> None:
        """A sum of two maps that have their activations: a 1x1 convolution that passes one on adds the other."""
        sources = [self._tensors.get(name) for name in operator.inputs]
        shapes = [self._graph.shapes.get(name) for name in operator.inputs]
        channels, size = self._map(operator)
        source, residual = sources
        is_map = source is not None and residual is not None and INPUT not in sources and size > 1
        is_map = is_map and shapes[0] == shapes[1] and len(shapes[0] or ()) == 4
        if not is_map or channels > MOST_PASSED or (residual or "").startswith(("squeeze_excite", "global_pool")):
            hint = "a sum is taken where one of its two maps comes from a convolution without an activation"
            raise refused(operator, "no convolution can add it to its result", hint)
        assert source is not None
        name = f"conv{len(self._layers)}_{_slug(operator.name or operator.output)}"
        layer = LayerSpec(name, "conv", source, channels, channels, size, residual=residual)
        layer, output = self._activation(layer, operator.output)
        self._weights[f"{name}.weight"] = np.eye(channels, dtype=np.float32)[:, :, None, None]
        self._layers.append(layer)
        self._tensors[output] = name

    def _pool(self, operator: Operator) -> None:
        window = operator.attributes.get("kernel_shape", ())
        if len(set(window)) != 1 or any(step != 1 for step in operator.attributes.get("dilations", ())):
            raise refused(operator, f"its window is {tuple(window)}, or dilated", "square windows are taken")
        channels, size = self._map(operator)
        padding = self._padding(operator, window[0], size)
        is_largest = operator.kind == "MaxPool"
        if padding != "none" and window[0] > 1 and not is_largest:
            raise refused(operator, "it averages over a padded map", "average pooling without padding is taken")
        layer = LayerSpec(
            "",
            "max_pool" if is_largest else "average_pool",
            self._source(operator),
            channels,
            channels,
            size,
            window[0],
            stride_of(operator),
            padding=padding,
        )
        if layer.input == INPUT:
            raise refused(operator, "it reads the image itself", "begin with a convolution")
        self._end(operator, layer)

    def _padding(self, operator: Operator, window: int, size: int) -> Padding:
        return padding_of(operator, window, size, self._shape(operator.output, operator)[2])

    # What follows in a layer ----------------------------------------------------------------------------------------

    def _end(
        self,
        operator: Operator,
        layer: LayerSpec,
        weight: NDArray[np.float32] | None = None,
        bias: NDArray[np.float32] | None = None,
    ) -> str:
        """Add a layer with what follows in it, and return its name."""
        name = f"{layer.kind}{len(self._layers)}_{_slug(operator.name or operator.output)}"
        layer, output = replace(layer, name=name), operator.output
        if weight is not None:
            affine, output, taken = affine_behind(self._graph, output)
            self._taken.update(taken)
            weight, bias = affine.folded(weight, bias)
            if bias is None and layer.kind == "linear":
                bias = np.zeros(layer.out_channels, np.float32)
            layer, output = self._residual(replace(layer, bias=bias is not None), output)
            layer, output = self._activation(layer, output)
            self._weights[f"{name}.weight"] = np.ascontiguousarray(weight, np.float32)
            if bias is not None:
                self._weights[f"{name}.bias"] = np.ascontiguousarray(bias, np.float32)
        shape = self._shape(output, operator)
        if np.prod(shape) != layer.out_elements:
            raise refused(operator, f"it gives {shape}, not {layer.out_channels} maps of {layer.out_size}", TAKEN)
        self._check_reading(layer, operator)
        self._layers.append(layer)
        self._tensors[output] = name
        return name

    def _check_reading(self, layer: LayerSpec, operator: Operator) -> None:
        """A mean is read by a matrix product alone, and a single pixel is not scaled."""
        before = next((one for one in self._layers if one.name == layer.input), None)
        if before is not None and layer.kind != "linear":
            given, read = (before.out_channels, before.out_size), (layer.in_channels, layer.in_size)
            if given != read:
                raise refused(operator, f"it reads a map of {given[0]} channels as one of {read[0]}", TAKEN)
        reads_mean = layer.input.startswith("global_pool")
        is_product = layer.kind == "linear" or (layer.kind == "conv" and layer.kernel_size == layer.groups == 1)
        if (reads_mean and not is_product) or (layer.kind == "squeeze_excite" and layer.in_size == 1):
            raise refused(operator, "it reads a single pixel", "a 1x1 convolution or a linear layer may")

    def _residual(self, layer: LayerSpec, output: str) -> tuple[LayerSpec, str]:
        reader = self._graph.only_reader(output)
        if reader is None or reader.kind != "Add" or layer.kind != "conv":
            return layer, output
        other = next((name for name in reader.inputs if name != output), output)
        added = self._tensors.get(other)
        has_shape = self._graph.shapes.get(other) == self._graph.shapes.get(output)
        if added is None or added == INPUT or not has_shape or added.startswith(("squeeze_excite", "global_pool")):
            return layer, output
        self._taken.add(reader)
        return replace(layer, residual=added), reader.output

    def _activation(self, layer: LayerSpec, output: str) -> tuple[LayerSpec, str]:
        reader = self._graph.only_reader(output)
        if reader is None or reader.kind not in ACTIVATIONS:
            return layer, output
        check_activation(reader)
        self._taken.add(reader)
        return replace(layer, activation=ACTIVATIONS[reader.kind]), reader.output


def _slug(name: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    whole = re.sub(r"^(node|graph)_", "", words)
    short = whole if len(whole) <= MOST_LETTERS else whole[-MOST_LETTERS:].partition("_")[2]
    return short or whole[-MOST_LETTERS:] or "layer"
