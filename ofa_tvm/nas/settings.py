"""How hard a search tries, and for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ofa_tvm.nas.objectives import ENERGY
from ofa_tvm.timing.window import Percentile


@dataclass(frozen=True)
class SearchSettings:
    """How long to search and how many finalists to measure in each round.

    ``objectives`` and ``limits`` are named as in ``OBJECTIVES``: what the front trades off besides accuracy and
    latency, and the most that any pick may cost. ``resolutions`` are those that may be taken; None for all. Latencies
    are of this ``percentile`` of single calls, while ``busy_cores`` cores are kept busy. The search begins with the
    subnets of the keys ``start`` and with those that were measured.
    """

    searcher: str = "nsga2"
    evaluations: int = 20_000
    population: int = 200
    finalists: int = 4
    rounds: int = 2
    most_rounds: int = 5
    front_picks: int = 8
    seed: int = 0
    objectives: tuple[str, ...] = ()
    limits: Mapping[str, float] | None = None
    resolutions: tuple[int, ...] | None = None
    percentile: Percentile = 50
    busy_cores: int = 0
    start: tuple[str, ...] = ()

    @property
    def asks_energy(self) -> bool:
        """Whether energy is limited or minimised."""
        return ENERGY in {*self.objectives, *(self.limits or ())}
