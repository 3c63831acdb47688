"""Energy and emissions of running a network, as they are estimated where no meter is at hand."""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.support.ledger import CORE_WATTS, JOULE_PER_KWH

IMAGES = 1_000_000
GRID = 481.0
"""gCO2e of a kWh: the world's electricity in 2023 (Ember, yearly electricity data of July 2024)."""
GRID_SOURCE = "481 g of CO2e per kWh, the world's mean of 2023 (Ember)"


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
