"""Int32 sums that are float32 numbers without being converted.

Sums that begin at the bits of ``BIAS`` are, read as float32, ``BIAS`` plus the sum, exactly as long as the sum stays
below 2^22. So the conversion of every sum is saved; what follows subtracts the bias in its own multiply-add.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BIAS = float(3 << 22)
BIAS_BITS = 0x4B400000
_LARGEST_PRODUCT = 255 * 127


def sums_are_biased(depth: int) -> bool:
    """Whether sums of so many products of u8 and s8 begin at the bias, because none can leave its reach."""
    return depth * _LARGEST_PRODUCT < 1 << 22


def biased_ends(ends: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
    """``ends`` (``kernel.quantised_arrays``) for sums of so many products: the bias is taken from what is added."""
    if not sums_are_biased(depth):
        return ends
    exact = ends.astype(np.float64)
    exact[1] -= BIAS * exact[0]
    if len(ends) > 4:
        exact[3] -= BIAS * exact[2]
    return exact.astype(np.float32)


def first_sum(depth: int) -> int:
    """What sums of so many products begin with."""
    return BIAS_BITS if sums_are_biased(depth) else 0
