"""Scales of an int8 subnet from calibration images: which values each tensor takes, and which range serves them best.

A map with one scale gets the range of the least error, which clips rare values (as in Nagel et al., "A White Paper on
Neural Network Quantization", 2021, section 3.1). A map with a scale by channel gets each channel's smallest and
largest value, and so does a vector: clipped by a sample, where values are few, they lose more than they gain.
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
from ofa_tvm.graph.quantisation import LEVELS, QuantisedTensor, quantised_tensors, scale_arrays
from ofa_tvm.graph.weights import Weights
from ofa_tvm.supernet.elastic import Layer, run
from ofa_tvm.supernet.folded import FoldedSubnet
from ofa_tvm.supernet.subnet import SqueezeExcite, Subnet

SAMPLED = 8192
"""Values of a tensor that are kept of each batch."""
BINS = 2048
HIGHS = np.linspace(0.2, 1, 33)
LOWS = np.linspace(0.3, 1, 8)
ERROR_POWER = 3
"""Of the error that a range makes; above 2, rare large values count for more, which they do for the logits."""
DEEP_LOW = -0.5
"""Above it a range's low end is that of hard-swish, which is not clipped."""

Doubles = NDArray[np.float64]
Range = tuple[Doubles, Doubles]
Hidden = Callable[[Tensor, LayerSpec], Tensor]
"""From the pooled map to the hidden vector of a squeeze-excite layer."""


class Observer:
    """Values of one tensor over batches."""

    def __init__(self, tensor: QuantisedTensor) -> None:
        self._tensor = tensor
        self._low = self._high = np.zeros(tensor.channels)
        self._samples: list[Doubles] = []

    def see(self, values: Tensor) -> None:
        """Learn from (images, channels, ...)."""
        if self._tensor.channels > 1:
            by_channel = values.transpose(0, 1).flatten(1)
            low, high = by_channel.amin(1), by_channel.amax(1)
        else:
            low, high = values.amin().reshape(1), values.amax().reshape(1)
            flat = values.flatten()
            if not self._tensor.is_vector:
                self._samples.append(flat[:: max(1, flat.numel() // SAMPLED)].double().numpy())
        self._low = np.minimum(self._low, low.double().numpy())
        self._high = np.maximum(self._high, high.double().numpy())

    def scales(self) -> dict[str, NDArray[np.float32]]:
        """The tensor's arrays, see ``graph.quantisation.scale_arrays``."""
        low, high = self._low, self._high
        if self._samples and high[0] > low[0]:
            best_low, best_high = best_range(np.concatenate(self._samples), float(low[0]), float(high[0]))
            low, high = np.array([best_low]), np.array([best_high])
        return scale_arrays(self._tensor, low, high)


def best_range(values: Doubles, low: float, high: float) -> tuple[float, float]:
    """The part of a range whose levels stand for values with the least error."""
    counts, edges = np.histogram(values, BINS, (low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    lows = LOWS * low if low < DEEP_LOW else np.array([low])
    pairs = [(float(some_low), float(some_high)) for some_low in lows for some_high in HIGHS * high]

    def error(ends: tuple[float, float]) -> float:
        scale = max(ends[1] - ends[0], 1e-9) / LEVELS
        zero = np.rint(-ends[0] / scale)
        levels = np.clip(np.rint(centres / scale) + zero, 0, LEVELS) - zero
        return float((counts * np.abs(levels * scale - centres) ** ERROR_POWER).sum())

    return min(pairs, key=error)


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
