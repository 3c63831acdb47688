"""Scales of an int8 subnet from calibration images.

A map has a scale by channel. Where only depthwise convolutions, squeeze-excite, pooling or an added residual read it,
that is each channel's own range: it costs nothing. Where a 1x1 convolution reads it, weights take up the scales, and
those of channels with small ranges lose what the levels win; so these scales are half-way, the geometric mean of a
channel's range and the largest one (the balance of Xiao et al., "SmoothQuant", ICML 2023, and of Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019). Nothing is clipped: where values
are few, clipping loses more than it gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ofa_tvm.graph.fusion import HIDDEN, SUMS
from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.graph.quantisation import QuantisedTensor, quantised_tensors, scale_arrays
from ofa_tvm.graph.weights import Weights
from ofa_tvm.supernet.elastic import Layer, run
from ofa_tvm.supernet.folded import FoldedSubnet
from ofa_tvm.supernet.subnet import SqueezeExcite, Subnet

Doubles = NDArray[np.float64]
Range = tuple[Doubles, Doubles]
Hidden = Callable[[Tensor, LayerSpec], Tensor]
"""From the pooled map to the hidden vector of a squeeze-excite layer."""


class Observer:
    """Values of one tensor over batches."""

    def __init__(self, tensor: QuantisedTensor) -> None:
        self._tensor = tensor
        self._low = self._high = np.zeros(tensor.channels)

    def see(self, values: Tensor) -> None:
        """Learn from (images, channels, ...)."""
        by_scale = values.transpose(0, 1).flatten(1) if self._tensor.channels > 1 else values.reshape(1, -1)
        self._low = np.minimum(self._low, by_scale.amin(1).double().numpy())
        self._high = np.maximum(self._high, by_scale.amax(1).double().numpy())

    def scales(self) -> dict[str, NDArray[np.float32]]:
        """The tensor's arrays, see ``graph.quantisation.scale_arrays``."""
        low, high = self._low, self._high
        if self._tensor.is_product:
            ranges = np.maximum(high - low, 1e-9)
            wider = np.sqrt(ranges.max() / ranges)
            low, high = low * wider, high * wider
        return scale_arrays(self._tensor, low, high)


class _Observed:
    """A network's layers, whose outputs are seen by observers."""

    def __init__(self, network: NetworkSpec, layers: Callable[[str], Layer], hidden: Hidden) -> None:
        self._layers, self._hidden = layers, hidden
        self.observers = {tensor.name: Observer(tensor) for tensor in quantised_tensors(network)[1:]}

    def __call__(self, name: str) -> Layer:
        """What runs a layer and looks at its output."""

        def layer(inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
            output = self._layers(name)(inputs, spec, residual)
            if spec.kind == "squeeze_excite":
                pooled = inputs.mean((2, 3), keepdim=True)
                self._see(spec.input + SUMS, pooled)
                self._see(name + HIDDEN, self._hidden(pooled, spec))
            self._see(name, output)
            return output

        return layer

    def _see(self, name: str, values: Tensor) -> None:
        if name in self.observers:
            self.observers[name].see(values)


@torch.inference_mode()
def _scales(network: NetworkSpec, layers: _Observed, batches: Iterable[Tensor], image_range: Range) -> Weights:
    image, *_ = quantised_tensors(network)
    for images in batches:
        run(network, images, layers)
    scales = scale_arrays(image, *image_range)
    for observer in layers.observers.values():
        scales |= observer.scales()
    return scales


def quantised(subnet: Subnet, batches: Iterable[Tensor], image_range: Range) -> Weights:
    """Folded weights of a recalibrated subnet with the scales of its int8 form.

    Args:
        subnet: the subnet.
        batches: preprocessed images (n, 3, resolution, resolution).
        image_range: what black and white become in each channel, so that an image's levels are its own.
    """

    def hidden(pooled: Tensor, spec: LayerSpec) -> Tensor:
        module = cast(SqueezeExcite, subnet.layers[spec.name])
        return F.relu(F.conv2d(pooled, module.reduce[0], module.reduce[1]))

    layers = _Observed(subnet.network, lambda name: cast(Layer, subnet.layers[name]), hidden)
    return {**subnet.folded(), **_scales(subnet.network, layers, batches, image_range)}


def quantised_weights(network: NetworkSpec, weights: Weights, images: NDArray[np.float32]) -> Weights:
    """Folded weights with the scales of their int8 form.

    Args:
        network: the network.
        weights: its folded weights.
        images: normalised images (n, resolution, resolution, channels).
    """
    folded = FoldedSubnet(network, weights, torch.get_num_threads())

    def hidden(pooled: Tensor, spec: LayerSpec) -> Tensor:
        weight, bias = (folded.tensors[f"{spec.name}.reduce.{part}"] for part in ("weight", "bias"))
        return F.relu(F.conv2d(pooled, weight, bias))

    layers = _Observed(network, lambda _: folded.layer, hidden)
    ends = images.min((0, 1, 2)).astype(np.float64), images.max((0, 1, 2)).astype(np.float64)
    return {**weights, **_scales(network, layers, [folded.inputs(images)], ends)}
