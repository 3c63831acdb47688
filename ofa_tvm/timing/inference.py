"""What calls of a network draw: busy cores for the time that they take, or what a meter reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from ofa_tvm.support.ledger import CORE_WATTS, JOULE_PER_KWH, Cost
from ofa_tvm.timing.window import Percentile, Timing

IMAGES = 1_000_000
"""The functional unit of inference: so many images classified."""


class Told(NamedTuple):
    """A told latency.

    Args:
        ms: the latency; None where none is known.
        measured: whether it was measured; otherwise it is an estimate.
        timing: the windows behind it, where there are any.
        percentile: which percentile of single calls it is.
    """

    ms: float | None
    measured: bool
    timing: Timing | None = None
    percentile: Percentile = 50


@dataclass(frozen=True)
class Inference:
    """Single calls of a library.

    Args:
        ms: latency, with the least and the greatest one of its windows.
        threads: cores that a call keeps busy.
        batch: images of a call.
        measured: whether the latency was; otherwise it is an estimate.
        watts: what the device draws meanwhile, by a meter or its own counter; None to estimate it from busy cores.
    """

    ms: tuple[float, float, float]
    threads: int
    batch: int
    measured: bool
    watts: float | None = None

    @classmethod
    def of(
        cls, told: Told, shape: tuple[int, int], watts: float | None, attributes: Mapping[str, object]
    ) -> tuple[Self | None, str]:
        """Calls of a told latency, which the windows behind it bound; or why what they draw is not known.

        Args:
            told: the latency.
            shape: threads, and images of a call.
            watts: as the class has it.
            attributes: of TVM's target.
        """
        if told.ms is None:
            return None, "no latency is known"
        if watts is None and (unknown := unknown_power(attributes)):
            return None, f"{unknown}: give --watts, as a meter reads them"
        low_ms, high_ms = (told.ms, told.ms) if told.timing is None else told.timing.spread_ms(told.percentile)
        return cls((told.ms, low_ms, high_ms), *shape, told.measured, watts), ""

    def cost(self, images: int) -> Cost:
        """Of so many images, in calls one after the other."""
        told, low, high = (1e-3 * ms * images / self.batch for ms in self.ms)
        core_watts = CORE_WATTS if self.watts is None else (self.watts / self.threads,) * 3
        joules = [seconds * self.threads * watts for seconds, watts in zip((low, told, high), core_watts, strict=True)]
        low_kwh, kwh, high_kwh = (one / JOULE_PER_KWH for one in joules)
        how = f"estimated ({CORE_WATTS[1]:g} W per busy core" if self.watts is None else f"metered ({self.watts:.4g} W"
        how += ", latency measured)" if self.measured else ", latency estimated)"
        return Cost(f"inference of {images:,} images", told, told * self.threads, kwh, low_kwh, high_kwh, how)


def unknown_power(attributes: Mapping[str, object]) -> str:
    """Why watts of a busy core do not tell what a target (TVM's attributes) draws; empty where they do."""
    if attributes.get("kind") == "cuda":
        return "a GPU's energy by call was not metered"
    if str(attributes.get("mtriple", "")).startswith(("aarch64", "arm")):
        return "watts of a busy core are known of x86 servers only"
    return ""
