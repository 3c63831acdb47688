"""Power: what calls of a network draw, from their latency and their work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.support.ledger import CORE_WATTS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """Energy of a call is its latency times ``watts``, and its work times ``mj_per_mmac``.

    Args:
        watts: what the device draws as long as a call takes.
        mj_per_mmac: millijoules that a million MACs of an image take besides.
    """

    watts: float
    mj_per_mmac: float = 0.0

    @classmethod
    def of_cores(cls, threads: int) -> Self:
        """Of calls that keep so many cores busy, in the middle of the ledger's estimate."""
        return cls(threads * CORE_WATTS[1])

    @classmethod
    def fit(cls, latency_ms: Floats, mmacs: Floats, energy_mj: Floats) -> Self:
        """The power whose relative errors are least; all shapes (n,), one measured subnet or more."""
        from scipy.optimize import nnls  # imported late: most searches do without

        columns = np.stack([latency_ms, mmacs], axis=1) / energy_mj[:, None]
        watts, mj_per_mmac = nnls(columns, np.ones(len(energy_mj)))[0]
        return cls(float(watts), float(mj_per_mmac))

    def energy_mj(self, latency_ms: Floats, mmacs: Floats) -> Floats:
        """Of calls, shape (n,)."""
        return self.watts * latency_ms + self.mj_per_mmac * mmacs


UNKNOWN = Power(0.0)
"""Of a GPU whose energy was never metered."""
