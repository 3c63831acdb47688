"""Folded weights: what a compiled subnet carries, as plain arrays.

Batch norm is folded into each layer's weight and bias. Layouts are torch's:

==================  =======================================================================================
layer kind          arrays
==================  =======================================================================================
conv                ``<layer>.weight`` (out, in / groups, k, k), ``<layer>.bias`` (out,)
depthwise           ``<layer>.weight`` (channels, 1, k, k), ``<layer>.bias`` (channels,)
squeeze_excite      ``<layer>.reduce.weight`` (hidden, channels), ``<layer>.reduce.bias`` (hidden,),
                    ``<layer>.expand.weight`` (channels, hidden), ``<layer>.expand.bias`` (channels,)
linear              ``<layer>.weight`` (out, in * height * width), ``<layer>.bias`` (out,)
==================  =======================================================================================

A conv or linear layer without norm and bias has no ``.bias``.

An array that is called as one of ``MARKED`` says that weights, which stay float32, are those of a network of that type:
they are rounded where kernels are given them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.support.dtype import DType

Weights = Mapping[str, NDArray[np.float32]]
MARKED: tuple[DType, ...] = ("bfloat16", "float16")


def marked(weights: Weights, dtype: DType) -> dict[str, NDArray[np.float32]]:
    """Folded weights as those of a network of this type; of float32 they are that without a mark."""
    return {**weights, dtype: np.empty(0, np.float32)} if dtype in MARKED else dict(weights)


def weight_shapes(spec: LayerSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a layer's folded arrays."""
    kernel = (spec.kernel_size, spec.kernel_size)
    shapes: dict[str, tuple[int, ...]] = {}
    match spec.kind:
        case "conv":
            shapes["weight"] = (spec.out_channels, spec.in_channels // spec.groups, *kernel)
        case "depthwise":
            shapes["weight"] = (spec.out_channels, 1, *kernel)
        case "linear":
            shapes["weight"] = (spec.out_channels, spec.in_channels * spec.in_size**2)
        case "squeeze_excite":
            hidden, channels = spec.hidden_channels, spec.in_channels
            shapes["reduce.weight"] = (hidden, channels)
            shapes["reduce.bias"] = (hidden,)
            shapes["expand.weight"] = (channels, hidden)
            shapes["expand.bias"] = (channels,)
    if spec.norm or spec.bias:
        shapes["bias"] = (spec.out_channels,)
    return {f"{spec.name}.{name}": shape for name, shape in shapes.items()}


PACKED_PERIOD = 257
"""Period of the random weights of subnets in packs; a prime, so that channels differ."""


def random_weights(network: NetworkSpec, seed: int = 0, period: int | None = None) -> dict[str, NDArray[np.float32]]:
    """Weights of the right shapes that keep activations in range (speed does not depend on their values).

    Args:
        network: the network.
        seed: of the values.
        period: numbers after which values repeat, so that they compress well.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    for layer in network.layers:
        for name, shape in weight_shapes(layer).items():
            fan_in = max(1, int(np.prod(shape[1:])))
            gain = 1 if layer.activation == "none" else 2
            scale = 0.1 if len(shape) == 1 else (gain / fan_in) ** 0.5
            count = int(np.prod(shape))
            values = rng.standard_normal(shape if period is None else min(count, period))
            values = values if period is None else np.resize(values, shape)
            weights[name] = (values * scale).astype(np.float32)
    return weights


def digest(weights: Weights) -> str:
    """SHA-256 over names, shapes and values, in order of names."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        sha.update(f"{name}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()
