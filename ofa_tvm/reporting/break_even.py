"""From how many targets on one training for all is cheaper than one for each: with bounds, and as others published it.

Ours is a cost once and a marginal cost for each target; the other way is a cost for each. All are energies in Wh.
"""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ofa_tvm.reporting.ledger_folders import read_folders
from ofa_tvm.support.amounts import Amount, added, averaged, merged
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_json
from ofa_tvm.support.ledger import Cost, total

AT = (1, 2, 5, 10, 40)
"""Numbers of targets for which ratios are told."""


@dataclass(frozen=True)
class BreakEven:
    """One training or tuning for all against one for each.

    Args:
        against: the other way, in words.
        per: what there are several of.
        once: our cost before the first.
        each: our cost of every one.
        other: the other way's cost of every one.
        at: the number from which on we are cheaper, the least and the greatest by the bounds; infinite for never.
        ratios: the other way's cost over ours by number, with the least and the greatest by the bounds.
        assumed: what this rests on.
    """

    against: str
    per: str
    once: Amount
    each: Amount
    other: Amount
    at: tuple[float, float, float]
    ratios: dict[int, tuple[float, float, float]]
    assumed: tuple[str, ...]

    @property
    def kind(self) -> str:
        """How the figures came about."""
        return ", ".join(merged(self.once.kinds, self.each.kinds, self.other.kinds))

    def record(self) -> Record:
        """As a JSON object; null for never."""
        parts = {name: getattr(self, name).record() for name in ("once", "each", "other")}
        at = [number if math.isfinite(number) else None for number in self.at]
        return {
            "against": self.against,
            "per": self.per,
            **parts,
            "at": dict(zip(("value", "low", "high"), at, strict=True)),
            "ratios": [
                {"number": number, "value": value, "low": low, "high": high}
                for number, (value, low, high) in self.ratios.items()
            ],
            "kind": self.kind,
            "assumed": list(self.assumed),
        }


def break_even(
    against: str, per: str, once: Amount, each: Amount, other: Amount, assumed: tuple[str, ...] = ()
) -> BreakEven:
    """Where two ways cost the same, from their costs; see ``BreakEven``."""

    def ratio(number: int) -> tuple[float, float, float]:
        return (
            _over(number * other.value, once.value + number * each.value),
            _over(number * other.low, once.high + number * each.high),
            _over(number * other.high, once.low + number * each.low),
        )

    at = (
        _crossing(once.value, other.value - each.value),
        _crossing(once.low, other.high - each.low),
        _crossing(once.high, other.low - each.high),
    )
    return BreakEven(against, per, once, each, other, at, {number: ratio(number) for number in AT}, assumed)


def _crossing(once: float, saved: float) -> float:
    return once / saved if saved > 0 else math.inf


def _over(one: float, other: float) -> float:
    return one / other if other > 0 else math.inf


class _Run(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    cost: Cost


class _Runs(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    rows: tuple[_Run, ...]


@dataclass(frozen=True)
class Alone:
    """What it takes to train, or to tune, a net for itself: the mean of what was measured, between its extremes."""

    trained: Amount | None
    tuned: Amount | None
    runs: int
    tunings: int


def read_alone(paths: list[Path]) -> Alone:
    """Costs of nets trained or tuned alone.

    Args:
        paths: folders of trainings and tuning logs, each of one net; files of results with a cost in each of their
            ``rows``, as ``benchmarks/alone.py`` writes them.

    Raises:
        UserError: one holds no cost, or is damaged.
    """
    trained: list[Amount] = []
    tuned: list[Amount] = []
    for path in paths:
        if path.is_file():
            trained += [run.cost.watt_hours for run in _runs(path)]
            continue
        for folder in read_folders([path]):
            costs = total(folder.stage, folder.costs).watt_hours
            if folder.stage not in ("train", "tune"):
                raise UserError(f"{folder.path} is no training's or tuning log's folder", "give others to --ledger")
            (trained if folder.stage == "train" else tuned).append(costs)
    return Alone(averaged(trained) if trained else None, averaged(tuned) if tuned else None, len(trained), len(tuned))


def _runs(path: Path) -> tuple[_Run, ...]:
    try:
        runs = _Runs.model_validate(read_json(path, "results")).rows
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        hint = "give a file of benchmarks/alone.py, or a training's folder"
        raise UserError(f"results {path} have no costs of nets alone: '{where}': {first['msg']}", hint) from error
    if not runs:
        raise UserError(f"results {path} are empty", "give a file of benchmarks/alone.py, or a training's folder")
    return runs


@dataclass(frozen=True)
class Published:
    """A published method against another one, in GPU hours: where both cost the same, and the ratio at ``targets``."""

    method: str
    against: str
    at: float
    ratio: float
    targets: int

    def record(self) -> Record:
        """As a JSON object; null for never."""
        return {**asdict(self), "at": self.at if math.isfinite(self.at) else None, "kind": "published"}


@functools.cache
def published() -> tuple[str, tuple[Published, ...]]:
    """OFA's own table: its source, and each of its rows against each other method."""
    table = tomllib.loads(files("ofa_tvm.reporting").joinpath("published_costs.toml").read_text())
    targets = int(table["targets"])
    found = []
    for ours in table["ofa"]:
        for other in table["other"]:
            costs = [one["once"] + targets * one["each"] for one in (other, ours)]
            at = _crossing(ours["once"] - other["once"], other["each"] - ours["each"])
            found.append(Published(ours["method"], other["method"], at, costs[0] / costs[1], targets))
    return table["source"], tuple(found)


def nothing(unit: str = "Wh") -> Amount:
    """No cost at all."""
    return added((), unit)
