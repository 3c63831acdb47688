"""Energy and emissions of running a network, as they are estimated where no meter is at hand."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.support.carbon import assumptions
from ofa_tvm.support.ledger import CORE_WATTS, JOULE_PER_KWH

IMAGES = 1_000_000
_GRID = assumptions().grid
GRID = _GRID.g_per_kwh
"""gCO2e of a kWh."""
GRID_SOURCE = f"{GRID:g} g of CO2e per kWh, the {_GRID.region}'s mean of {_GRID.year} ({_GRID.source})"


@dataclass(frozen=True)
class RunningEnergy:
    """Energy of a million images in kWh, with its bounds."""

    kwh: float
    low_kwh: float
    high_kwh: float

    @classmethod
    def of(cls, latency_ms: float, threads: int, batch: int) -> RunningEnergy:
        """From the latency of a call and the watts of its busy cores, see ``support.ledger``."""
        core_seconds = latency_ms / 1e3 * threads * IMAGES / batch
        low, middle, high = (core_seconds * watts / JOULE_PER_KWH for watts in CORE_WATTS)
        return cls(middle, low, high)

    @property
    def grams(self) -> tuple[float, float, float]:
        """gCO2e, with its bounds."""
        return self.kwh * GRID, self.low_kwh * GRID, self.high_kwh * GRID
