"""Sums of products over the windows of a map, of any number type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ofa_tvm.graph.kernel import KernelSpec

Values = NDArray[Any]


def _windows(spec: KernelSpec, input_map: Values) -> Values:
    """(batch, y, x, channels, ky, kx) view of the map, padded with zeros, or with what no maximum is."""
    k, sides = spec.kernel_size, spec.paddings
    beside = -np.inf if spec.kind == "max_pool" else 0
    padded = np.pad(input_map, ((0, 0), sides, sides, (0, 0)), constant_values=beside)
    view: Values = sliding_window_view(padded, (k, k), axis=(1, 2))
    return view[:, :: spec.stride, :: spec.stride]


def full_window(spec: KernelSpec, input_map: Values, weight: Values) -> Values:
    """A convolution with a weight (k, k, in / groups, out)."""
    view = _windows(spec, input_map).transpose(0, 1, 2, 4, 5, 3)
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    totals = []
    for group in range(spec.groups):
        part = np.ascontiguousarray(view[..., group * inputs : (group + 1) * inputs])
        matrix = weight[..., group * outputs : (group + 1) * outputs].reshape(-1, outputs)
        totals.append(part.reshape(*view.shape[:3], -1) @ matrix)
    return np.concatenate(totals, axis=-1)


def depthwise(spec: KernelSpec, input_map: Values, weight: Values) -> Values:
    """A depthwise convolution with a weight (k, k, channels)."""
    windows = _windows(spec, input_map)
    total = np.zeros(windows.shape[:4], input_map.dtype)
    for ky in range(spec.kernel_size):
        for kx in range(spec.kernel_size):
            total += windows[..., ky, kx] * weight[ky, kx]
    return total


def window_pool(spec: KernelSpec, input_map: Values) -> Values:
    """The largest value, or the mean, of each window."""
    windows = _windows(spec, input_map)
    pooled: Values = windows.max((4, 5)) if spec.kind == "max_pool" else windows.mean((4, 5), dtype=np.float32)
    return pooled
