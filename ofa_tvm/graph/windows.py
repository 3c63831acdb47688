"""Sums of products over the windows of a map, of any number type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ofa_tvm.graph.kernel import KernelSpec

Values = NDArray[Any]


def _windows(spec: KernelSpec, input_map: Values) -> Values:
    """(batch, y, x, channels, ky, kx) view of the map, padded with zeros."""
    k = spec.kernel_size
    sides = (spec.padding, k // 2)
    padded = np.pad(input_map, ((0, 0), sides, sides, (0, 0)))
    view: Values = sliding_window_view(padded, (k, k), axis=(1, 2))
    return view[:, :: spec.stride, :: spec.stride]


def full_window(spec: KernelSpec, input_map: Values, weight: Values) -> Values:
    """A full convolution with a weight (k, k, in, out)."""
    view = _windows(spec, input_map).transpose(0, 1, 2, 4, 5, 3)
    total: Values = np.ascontiguousarray(view).reshape(*view.shape[:3], -1) @ weight.reshape(-1, spec.out_channels)
    return total


def depthwise(spec: KernelSpec, input_map: Values, weight: Values) -> Values:
    """A depthwise convolution with a weight (k, k, channels)."""
    windows = _windows(spec, input_map)
    total = np.zeros(windows.shape[:4], input_map.dtype)
    for ky in range(spec.kernel_size):
        for kx in range(spec.kernel_size):
            total += windows[..., ky, kx] * weight[ky, kx]
    return total
