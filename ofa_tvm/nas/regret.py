"""What is lost by shipping one target's picks on another target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ofa_tvm.hardware.target import Provenance
from ofa_tvm.nas.budget_search import Finder
from ofa_tvm.nas.result import Pick
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.files import Record


@dataclass(frozen=True)
class Regret:
    """Picks of one target on another, compared there with that target's own picks; means over the picks.

    Args:
        shipped: the target that the picks were searched for.
        on: the target that they run on.
        top1_lost: accuracy lost, as a fraction, against the best subnet that holds the pick's budget there (or that is
            no slower than the pick, where it has no budget or breaks it).
        slower: latency there over that of the fastest subnet that is as accurate, less one.
        broken_budgets: picks that take longer there than their budget.
        picks: how many were compared.
        unsure_budgets: picks of which others disturbed the machine too much to say; None in files of older versions,
            which count them as broken.
        predicted: picks that were not measured there: their latency is what the model there predicts, and it is not
            counted whether they hold their budget.
        provenance: how the latencies of the others were obtained.
    """

    shipped: str
    on: str
    top1_lost: float
    slower: float
    broken_budgets: int
    picks: int
    unsure_budgets: int | None = None
    predicted: int = 0
    provenance: Provenance = "measured"

    @property
    def how(self) -> str:
        """How latencies there were obtained, for a person."""
        if self.predicted == self.picks:
            return "predicted"
        return f"{self.provenance}, {self.predicted} predicted" if self.predicted else self.provenance

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


def regret(shipped: str, picks: Sequence[Pick], on: str, finder: Finder, own: Sequence[Pick]) -> Regret:
    """Measure picks of one target on another, or predict them where no device is at hand; compare them with its own.

    Args:
        shipped: name of the target that the picks were searched for.
        picks: its picks, one or more.
        on: name of the other target (or the same).
        finder: of the other target.
        own: the other target's picks; likewise.
    """
    configs = [SubnetConfig.parse(pick.subnet) for pick in (*picks, *own)]
    measured = finder.bench.measure(configs, f"measuring picks of {shipped} on {on}")
    predicted_ms = finder.models.latency.mean_ms(finder.space.genomes(configs))
    best_known = [guess if known is None else known for known, guess in zip(measured, predicted_ms, strict=True)]
    latency_ms = np.asarray(best_known, dtype=np.float64)
    shipped_here = list(zip(configs, picks, measured, strict=False))
    held = [
        finder.held(config, pick.budget_ms)
        for config, pick, known in shipped_here
        if pick.budget_ms and known is not None
    ]
    top1 = np.asarray([finder.top1(config) for config in configs])
    shipped_ms, shipped_top1 = latency_ms[: len(picks), None], top1[: len(picks), None]
    budgets_ms = np.asarray([pick.budget_ms or 0.0 for pick in picks])[:, None]
    best = np.where(latency_ms <= np.maximum(shipped_ms, budgets_ms), top1, -np.inf).max(axis=1)
    fastest = np.where(top1 >= shipped_top1, latency_ms, np.inf).min(axis=1)
    return Regret(
        shipped,
        on,
        top1_lost=float((best - shipped_top1[:, 0]).mean()),
        slower=float((shipped_ms[:, 0] / fastest - 1).mean()),
        broken_budgets=held.count(False),
        picks=len(picks),
        unsure_budgets=held.count(None),
        predicted=sum(known is None for _, _, known in shipped_here),
        provenance=finder.bench.target.stored_provenance(),
    )
