"""Whether two engines compute the same network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.support.errors import OfaTvmError

MAX_RELATIVE_ERROR = 1e-4
MAX_BFLOAT16_ERROR = 2e-2
"""Of a whole bfloat16 network from its reference: sums in another order turn a few roundings of each map by a step of
1/128, and these go on through the layers."""
MAX_FLOAT16_ERROR = 5e-2
"""Of a whole float16 network on a CPU from float32, which is its reference: it also adds up in float16."""


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Largest difference over the largest expected magnitude; infinite where ``found`` is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(found - expected).max()) / scale


def check_parity(what: str, error: float, reference: str, limit: float = MAX_RELATIVE_ERROR) -> None:
    """Check that a relative error is acceptable.

    Raises:
        OfaTvmError: it is too large for float32 arithmetic in another order.
    """
    if not error <= limit:
        raise OfaTvmError(
            f"{what} differs from {reference} by {error:.1e} of the largest output (at most {limit:.0e})",
            "nothing was timed or written from it; please report the subnet's key, the target and the versions",
        )
