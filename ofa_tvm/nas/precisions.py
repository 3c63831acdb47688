"""One search in several precisions: each is searched alone, and the best picks of all become one result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.nas.result import FILE_NAME, FrontPoint, Pick, UnmetBudget
from ofa_tvm.nas.target_search import TargetSearch
from ofa_tvm.support.command import SCHEMA_VERSION
from ofa_tvm.support.files import Record, write_json
from ofa_tvm.tuner.tuned_space import Target

EQUAL_TOP1 = 0.0005
"""Accuracies that differ by less count as equal; the faster pick is offered."""


class Precisions:
    """Finished searches of one device in several precisions, as one.

    Args:
        searches: one for each precision.
        folder: of the common result.
    """

    def __init__(self, searches: Sequence[TargetSearch], folder: Path) -> None:
        self.folder, self._searches = folder, searches
        first = searches[0]
        self.named: Target = first.named
        self.target: TargetSpec = first.target
        self.bench: LatencyBench = first.bench
        self.picks = [
            pick.model_copy(update={"number": number}) for number, pick in enumerate(self._best_picks(), start=1)
        ]
        met = {pick.budget_ms for pick in self.picks}
        nearest: dict[float, UnmetBudget] = {}
        for unmet in (unmet for search in searches for unmet in search.infeasible if unmet.budget_ms not in met):
            known = nearest.setdefault(unmet.budget_ms, unmet)
            nearest[unmet.budget_ms] = min(known, unmet, key=lambda budget: budget.nearest_ms)
        self.infeasible = list(nearest.values())

    def _best_picks(self) -> list[Pick]:
        picks = [
            pick.model_copy(update={"dtype": search.target.dtype}) for search in self._searches for pick in search.picks
        ]
        budgets = sorted({pick.budget_ms for pick in picks if pick.budget_ms is not None})
        if not budgets:
            return _undominated(picks)
        return [better_of([pick for pick in picks if pick.budget_ms == budget]) for budget in budgets]

    def others(self) -> list[str]:
        """A line for each pick that another precision's is better than."""
        offered = {(pick.dtype, pick.subnet, pick.budget_ms) for pick in self.picks}
        return [
            f"in {search.target.dtype}: {_top1(pick):.2%} (validation) at {_ms(pick):.3f} ms, {pick.subnet}"
            + ("" if pick.budget_ms is None else f", for {pick.budget_ms:g} ms")
            for search in self._searches
            for pick in search.picks
            if (search.target.dtype, pick.subnet, pick.budget_ms) not in offered
        ]

    def _front(self) -> list[FrontPoint]:
        points = [
            point.model_copy(update={"dtype": search.target.dtype})
            for search in self._searches
            for point in search.front
        ]
        best, front = 0.0, []
        for point in sorted(points, key=lambda point: (point.predicted_ms, -point.predicted_top1)):
            if point.predicted_top1 > best:
                best = point.predicted_top1
                front.append(point)
        return front

    def result(self, results: Sequence[Record]) -> Record:
        """The common result of each precision's own; written to the folder.

        The quality of models is that of the precision that most picks have.
        """
        of = {search.target.dtype: result for search, result in zip(self._searches, results, strict=True)}
        dtypes = [pick.dtype for pick in self.picks]
        main = of[max(of, key=dtypes.count)]
        payload = {
            **main,
            "dtype": None,
            "fingerprints": {dtype: result["fingerprint"] for dtype, result in of.items()},
            "picks": [pick.model_dump() for pick in self.picks],
            "infeasible": [budget.model_dump() for budget in self.infeasible],
            "front": [point.model_dump() for point in self._front()],
            "unmeasured": [],
            "rounds": [{**entry, "dtype": dtype} for dtype, result in of.items() for entry in result["rounds"]],
            "cost": [
                {**cost, "phase": f"{dtype}: {cost['phase']}"}
                for dtype, result in of.items()
                for cost in result["cost"]
            ],
            "folder": str(self.folder),
        }
        write_json(self.folder / FILE_NAME, {"schema_version": SCHEMA_VERSION, **payload})
        return payload


def _top1(pick: Pick) -> float:
    return next(
        (top1 for top1 in (pick.expected_top1, pick.validation_top1, pick.predicted_top1) if top1 is not None), 0.0
    )


def _ms(pick: Pick) -> float:
    return pick.verified_ms or pick.predicted_ms


def better_of(picks: Sequence[Pick]) -> Pick:
    """The most accurate pick that may hold its budget; of about equal ones the fastest."""
    holding = [pick for pick in picks if pick.held is not False] or list(picks)
    best = max(map(_top1, holding))
    return min((pick for pick in holding if _top1(pick) > best - EQUAL_TOP1), key=_ms)


def _undominated(picks: Sequence[Pick]) -> list[Pick]:
    """Picks that no faster one equals in accuracy, the fastest first."""
    best, kept = 0.0, []
    for pick in sorted(picks, key=lambda pick: (_ms(pick), -_top1(pick))):
        if _top1(pick) > best:
            best = _top1(pick)
            kept.append(pick)
    return kept
