"""Which boards can be trusted with timing, by the time of a reference kernel on each."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, median_low

import numpy as np

from ofa_tvm.support.files import Record


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a board is not trusted.

    Args:
        spread: the 90th percentile of a board's repeats over the fastest.
        slowness: a board's fastest repeat over the median of the boards.
    """

    spread: float = 1.3
    slowness: float = 1.25


@dataclass
class BoardState:
    """What is known of a board; ``quarantine`` is why it gets no more jobs, ``aside`` why it gets none for now."""

    address: str
    facts: Record = field(default_factory=dict)
    references_ms: list[list[float]] = field(default_factory=list)
    jobs: int = 0
    quarantine: str = ""
    aside: str = ""

    @property
    def usual_ms(self) -> float | None:
        """The fastest repeat of all reference timings."""
        return min(map(min, self.references_ms), default=None)

    @property
    def latest_ms(self) -> float | None:
        """The fastest repeat of the last reference timing."""
        return min(self.references_ms[-1]) if self.references_ms else None

    @property
    def spread(self) -> float | None:
        """Spread of the last reference timing."""
        return spread(self.references_ms[-1]) if self.references_ms else None

    def record(self) -> Record:
        """As a JSON object."""
        return {
            "board": self.address,
            "facts": self.facts,
            "jobs": self.jobs,
            "reference_ms": self.latest_ms,
            "reference_spread": self.spread,
            "reference_median_ms": [median(times_ms) for times_ms in self.references_ms],
            "quarantine": self.quarantine,
            "aside": self.aside,
        }


def spread(times_ms: list[float]) -> float:
    """The 90th percentile over the fastest."""
    return float(np.quantile(times_ms, 0.9) / min(times_ms))


def complaint(state: BoardState, others: list[BoardState], limits: Limits, expected_ms: float | None = None) -> str:
    """Why a board cannot be trusted; empty when it can.

    Args:
        state: the board.
        others: the other boards in use.
        limits: what is too much.
        expected_ms: what the reference kernel took when the tuning log began, where that is known.
    """
    if state.spread is None or state.latest_ms is None:
        return ""
    if state.spread > limits.spread:
        return f"noisy: a reference kernel's times spread by {state.spread:.2f}x; nothing else may run there"
    latest_ms = [board.latest_ms for board in [state, *others] if board.latest_ms is not None]
    slowness = state.latest_ms / median_low(latest_ms)
    if slowness > limits.slowness:
        return f"slow: a reference kernel takes {slowness:.2f}x what it takes on the other boards"
    return slow_now(state, state.latest_ms, limits, expected_ms)


def slow_now(state: BoardState, beside_ms: float, limits: Limits, expected_ms: float | None = None) -> str:
    """Why a time cannot be trusted that a board told just now; empty when it can.

    Args:
        state: the board.
        beside_ms: what a reference kernel took beside.
        limits: what is too much.
        expected_ms: as for ``complaint``.
    """
    known_ms = [known for known in (state.usual_ms, expected_ms) if known is not None]
    slowness = beside_ms / min(known_ms) if known_ms else 1.0
    return f"slow: a reference kernel takes {slowness:.2f}x its usual time" if slowness > limits.slowness else ""
