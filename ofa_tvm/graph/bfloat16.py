"""bfloat16 as arrays of its bits (uint16), which numpy has no type for: the upper half of a float32.

In a bfloat16 network, maps and the weights of products (1x1 convolutions, dense layers) are bfloat16. Sums, what
follows them, the image, vectors, biases and weights of other layers are float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 2.0**-7
"""From a bfloat16 to the next, at most, over its value."""
PAIR = 2
"""Inputs that a product multiplies at a time; their number is a multiple of it."""

Array = NDArray[Any]


def narrowed(values: Array) -> Array:
    """The bits of the nearest bfloat16, of two equally near ones the even one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    nearest: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return nearest


def widened(array: Array) -> Array:
    """Bits of bfloat16, or float16, as float32; any other array as it is."""
    if array.dtype != np.uint16:
        return array.astype(np.float32) if array.dtype == np.float16 else array
    values: Array = (array.astype(np.uint32) << 16).view(np.float32)
    return values


def rounded(values: Array) -> NDArray[np.float32]:
    """The nearest bfloat16 as float32."""
    return widened(narrowed(values))


def beyond_steps(found: Array, expected: Array) -> NDArray[np.float64]:
    """How far arrays are apart; of bfloat16, beyond one step, which sums in another order may turn a rounding by."""
    exact = widened(expected).astype(np.float64)
    apart: NDArray[np.float64] = np.abs(widened(found) - exact)
    return np.maximum(apart - STEP * np.abs(exact), 0) if expected.dtype == np.uint16 else apart
