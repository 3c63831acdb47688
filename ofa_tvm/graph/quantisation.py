"""Quantised networks: scales and zero points of their maps, and the constants of int8 kernels.

A map's u8 value ``q`` stands for ``scale * (q - zero)``. The weights of a quantised network hold, beside the folded
arrays, ``<tensor>.scale`` and ``<tensor>.zero`` for each of ``quantised_tensors``: one number, or one by channel.
Weights are s8 per output channel, symmetric; what an input's scales and zero points contribute is folded into them and
into ``ends`` (``kernel.quantised_arrays``), so kernels know neither.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.bfloat16 import narrowed
from ofa_tvm.graph.fusion import HIDDEN, Step, fused_steps
from ofa_tvm.graph.network import INPUT, Activation, LayerSpec, NetworkSpec
from ofa_tvm.graph.weights import MARKED, Weights, marked, random_weights
from ofa_tvm.support.dtype import DType

LEVELS = 255
MOST = 127
"""The largest weight."""
RELU6 = 6.0
NOMINAL = {"relu": (0.0, 6.0), "relu6": (0.0, RELU6), "hard_swish": (-0.375, 6.0), "none": (-6.0, 6.0)}
"""Ranges of maps whose values do not matter, by activation."""

LEVELS_OF = ".levels"
"""After the name of a float32 map: its levels, with the scales of the map."""

Double = NDArray[np.float64]


@dataclass(frozen=True)
class QuantisedTensor:
    """A tensor that is u8 in an int8 network.

    Args:
        name: of the layer that gives it, or a name of ``fusion.Step``.
        activation: what its values have passed; ``none`` where they can have either sign.
        channels: how many scales it has; 1 for the input of a dense kernel.
        is_product: a matrix product reads it. Its weights take up the scales by channel, and lose where these differ.
        is_vector: it is no map, but the input of a dense kernel.
    """

    name: str
    activation: Activation
    channels: int = 1
    is_product: bool = False
    is_vector: bool = False

    @property
    def is_positive(self) -> bool:
        """Whether its zero point is 0, so that saturation is the activation."""
        return self.activation in ("relu", "relu6")


def quantised_tensors(network: NetworkSpec) -> tuple[QuantisedTensor, ...]:
    """The tensors of a network that are u8: the image, maps, scaled maps, and the inputs of dense kernels."""
    layers = {layer.name: layer for layer in network.layers}
    tensors = {INPUT: QuantisedTensor(INPUT, "none", network.in_channels)}

    for step in fused_steps(network, "int8"):
        for name in step.layers:
            layer = layers[name]
            if layer.kind in ("conv", "depthwise") and step.kernel.kind != "dense":
                is_product = _is_read_by_products(network, layer)
                tensors[name] = QuantisedTensor(name, layer.activation, layer.out_channels, is_product)
        if step.kernel.scaled:
            tensors[step.reads[1]] = QuantisedTensor(step.reads[1], "none", step.kernel.in_channels, is_product=True)
        if step.kernel.kind == "dense":
            name = step.reads[0]
            tensors[name] = QuantisedTensor(name, "relu" if name.endswith(HIDDEN) else "none", is_vector=True)
    return tuple(tensors.values())


def _is_read_by_products(network: NetworkSpec, layer: LayerSpec) -> bool:
    """Whether not all readers of a map treat channels apart, as depthwise, squeeze-excite and pooling do."""
    as_input = [reader.kind for reader in network.layers if reader.input == layer.name]
    return any(kind not in ("depthwise", "squeeze_excite", "global_pool") for kind in as_input)


def scale_arrays(tensor: QuantisedTensor, low: NDArray[Any], high: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The arrays of a tensor's scales for a range of values, (1,) or (channels,); zero is always a level."""
    low = np.zeros_like(low) if tensor.is_positive else np.minimum(low, 0)
    high = np.maximum(high, 0)
    if tensor.activation == "relu6":
        high = np.minimum(high, RELU6)
    scale = np.maximum(high - low, 1e-6) / LEVELS
    arrays = {"scale": scale, "zero": np.rint(-low / scale)}
    return {f"{tensor.name}.{name}": array.astype(np.float32) for name, array in arrays.items()}


def nominal_scales(network: NetworkSpec) -> dict[str, NDArray[np.float32]]:
    """Scales for weights of which only speed counts."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for tensor in quantised_tensors(network):
        low, high = (np.full(tensor.channels, end) for end in NOMINAL[tensor.activation])
        arrays |= scale_arrays(tensor, low, high)
    return arrays


def untrained_weights(
    network: NetworkSpec, dtype: DType, seed: int = 0, period: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """``random_weights`` of a network of this type."""
    return uncalibrated_weights(network, random_weights(network, seed, period), dtype)


def uncalibrated_weights(network: NetworkSpec, weights: Weights, dtype: DType) -> dict[str, NDArray[np.float32]]:
    """Folded weights as those of a network of this type, whose accuracy does not matter."""
    if dtype == "int8":
        return {**weights, **nominal_scales(network)}
    return marked(weights, dtype)


def is_quantised(weights: Weights) -> bool:
    """Whether weights hold scales."""
    return any(name.endswith(".scale") for name in weights)


def cpu_dtype_of(weights: Weights) -> DType:
    """What weights make a network on a CPU."""
    if is_quantised(weights):
        return "int8"
    return next((dtype for dtype in MARKED if dtype in weights), "float32")


def step_constants(step: Step, weights: Weights) -> list[NDArray[Any]]:
    """The constants of a step's kernel, as ``KernelSpec.weight_types`` lists them.

    Raises:
        ValueError: the kernel is int8, and a tensor's scale is missing.
    """
    if step.kernel.dtype == "int8":
        return _Constants(step, weights).arrays()
    arrays = zip(step.constants(weights), step.kernel.weight_types, strict=True)
    return [narrowed(array) if kind.dtype == "uint16" else array for array, kind in arrays]


@dataclass(frozen=True)
class _Scales:
    scale: Double
    zero: Double


@dataclass(frozen=True)
class _Product:
    """Quantised weights, and what turns their sums into real numbers: ``scale * sums + plus``."""

    weights: NDArray[np.int8]
    scale: Double
    plus: Double


class _Constants:
    def __init__(self, step: Step, weights: Weights) -> None:
        self._step, self._weights = step, weights
        self._kernel = step.kernel
        arrays = step.arrays(weights)
        self._floats: list[Double] = [array.astype(np.float64) for array in arrays]

    def arrays(self) -> list[NDArray[Any]]:
        step, kernel = self._step, self._kernel
        match kernel.kind:
            case "pool" | "quantise" | "dequantise":
                return self._conversion() if kernel.kind != "pool" else []
            case "conv" if kernel.reads_image:
                return self._image()
            case "conv":
                source = self._scales(step.reads[1] if kernel.scaled else step.reads[0])
                product = self._product(0, source)
                gating = [self._gating(self._scales(step.reads[0]), source)] if kernel.scaled else []
                return [*gating, product.weights, self._ends(product, step.layers[0])]
            case "depthwise":
                return self._depthwise(0, step.reads[0], step.layers[0])
            case "expand_depthwise":
                expand, deep = step.layers
                product = self._product(0, self._scales(step.reads[0]))
                return [product.weights, self._ends(product, expand), *self._depthwise(1, expand, deep)]
            case _:
                return self._dense()

    def _conversion(self) -> list[NDArray[Any]]:
        source = self._scales(self._step.reads[0])
        factor = 1 / source.scale if self._kernel.kind == "quantise" else source.scale
        return [_rows([factor, source.zero], self._kernel.in_channels)]

    def _image(self) -> list[NDArray[Any]]:
        source = self._scales(INPUT)
        weight, bias = self._weight(0)
        quantised, scale = symmetric(weight * source.scale[:, None], (0, 1, 2))
        zeros = quantised.astype(np.float64).sum((0, 1)).T @ source.zero
        product = _Product(quantised, scale, bias - zeros * scale)
        inputs = _rows([1 / source.scale, source.zero], self._kernel.in_channels)
        return [inputs, source.zero.astype(np.uint8), quantised, self._ends(product, self._step.layers[0])]

    def _weight(self, index: int) -> tuple[Double, Double]:
        """A weight and its bias."""
        each = 2 if self._kernel.bias else 1
        bias = self._floats[each * index + 1] if self._kernel.bias else np.zeros(self._kernel.out_channels)
        return self._floats[each * index], bias

    def _scales(self, tensor: str) -> _Scales:
        tensor = tensor.removesuffix(LEVELS_OF)
        try:
            scale, zero = self._weights[f"{tensor}.scale"], self._weights[f"{tensor}.zero"]
        except KeyError as error:
            raise ValueError(f"the weights are not quantised: {error} is missing") from error
        return _Scales(scale.astype(np.float64), zero.astype(np.float64))

    def _product(self, index: int, source: _Scales) -> _Product:
        """A matrix (in, out) whose input has these scales."""
        weight, bias = self._weight(index)
        weight = weight.reshape(-1, self._kernel.out_channels) * source.scale.reshape(-1, 1)
        quantised, scale = symmetric(weight, 0)
        zeros = np.broadcast_to(source.zero, weight.shape[0])
        return _Product(quantised, scale, bias - zeros @ quantised.astype(np.float64) * scale)

    def _depthwise(self, index: int, source: str, target: str) -> list[NDArray[Any]]:
        scales = self._scales(source)
        weight, bias = self._weight(index)
        quantised, scale = symmetric(weight, (0, 1))
        scale = scale * scales.scale
        zeros = np.broadcast_to(scales.zero, self._kernel.out_channels)
        product = _Product(quantised, scale, bias - zeros * quantised.sum((0, 1), np.float64) * scale)
        return [zeros.astype(np.uint8), quantised, self._ends(product, target)]

    def _gating(self, source: _Scales, target: _Scales) -> NDArray[np.float32]:
        ratio = np.broadcast_to(source.scale / target.scale, self._kernel.in_channels)
        zeros = np.broadcast_to(target.zero, ratio.shape)
        return np.stack([ratio, -source.zero * ratio, zeros]).astype(np.float32)

    def _ends(self, product: _Product, target: str) -> NDArray[np.float32]:
        """What turns sums into u8 values of a map."""
        out = self._scales(target)
        scale, plus = product.scale / out.scale, product.plus / out.scale
        rows = [scale, plus]
        if self._kernel.activation == "hard_swish":
            rows += _gate(product)
            rows.append(out.zero)
        else:
            rows[1] = plus + out.zero
        if self._kernel.residual:
            added = self._scales(self._step.reads[-1])
            ratio = added.scale / out.scale
            rows[1] = rows[1] - added.zero * ratio
            rows.append(ratio)
        return _rows(rows, self._kernel.out_channels)

    def _dense(self) -> list[NDArray[Any]]:
        step, kernel = self._step, self._kernel
        source = self._scales(step.reads[0])
        times, plus = 1 / source.scale, source.zero
        if step.summed is not None:
            summed = self._scales(step.summed)
            plus = source.zero - summed.scale * summed.zero / source.scale
            times = summed.scale / (step.pixels * source.scale)
        product = self._product(0, source)
        rows = [product.scale, product.plus]
        if kernel.activation == "hard_sigmoid":
            rows = _gate(product)
        elif kernel.activation == "hard_swish":
            rows += [*_gate(product), np.zeros(1)]
        return [_rows([times, plus], kernel.in_channels), product.weights, _rows(rows, kernel.out_channels)]


def _gate(product: _Product) -> list[Double]:
    return [product.scale / 6, product.plus / 6 + 0.5]


def _rows(rows: list[Double], channels: int) -> NDArray[np.float32]:
    return np.stack([np.broadcast_to(row, channels) for row in rows]).astype(np.float32)


def symmetric(weight: Double, axis: int | tuple[int, ...]) -> tuple[NDArray[np.int8], Double]:
    """Weights as s8, and the scale of each output channel: what is left of the shape without the axes."""
    largest = np.abs(weight).max(axis)
    scale = np.where(largest > 0, largest, 1.0) / MOST
    return np.rint(weight / np.expand_dims(scale, axis)).astype(np.int8), scale
