"""What a network computes, in numpy, kernel by kernel."""

from __future__ import annotations

import numpy as np

from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.network import INPUT, NetworkSpec
from ofa_tvm.graph.numpy_reference import Array, compute
from ofa_tvm.graph.weights import Weights


def network_logits(network: NetworkSpec, weights: Weights, images: Array) -> Array:
    """Logits (batch, classes) of normalised images (batch, resolution, resolution, channels)."""
    return np.concatenate([_logits(network, weights, image[None]) for image in images])


def _logits(network: NetworkSpec, weights: Weights, image: Array) -> Array:
    values = {INPUT: image}
    for step in fused_steps(network):
        data = [values[name] for name in step.reads]
        data[0] = data[0].reshape(step.kernel.input_shape)
        last = 2 if step.kernel.scaled else 1
        outputs = compute(step.kernel, [*data[:last], *step.constants(weights), *data[last:]])
        values |= dict(zip(step.writes, outputs, strict=True))
    return values[network.layers[-1].name].reshape(1, -1)
