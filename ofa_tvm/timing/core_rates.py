"""What one core of this machine can do at most, measured: to compare kernels with."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ofa_tvm.support.c_library import native_library


@dataclass(frozen=True)
class CoreRates:
    """Rates of one core.

    Args:
        gflops_per_s: billions of float32 operations a second, two for each multiply-add, nothing read or written.
        gbytes_per_s: billions of bytes a second that arrive from memory.
    """

    gflops_per_s: float
    gbytes_per_s: float


def core_rates() -> CoreRates | None:
    """Measure them, in a fifth of a second; None where no C compiler is found."""
    library = native_library("ofa_tvm.timing", ("core_rates.c",), "-ffp-contract=fast")
    if library is None:
        return None
    rates = (ctypes.c_double * 2)()
    if library.ofa_tvm_core_rates(rates):
        return None
    return CoreRates(*rates)
