"""Two exported benchmarks beside each other: what changed, and whether the difference is more than their spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ofa_tvm.engines.choice import OURS, OWN
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_json, write_json

FORMAT: Final = "ofa_tvm.benchmark"
SCHEMA_VERSION: Final = 1
ALIKE = 0.02
"""By so much two runs of the same differ, whatever their windows say: memory lies elsewhere, the clock has moved."""
Verdict = Literal["faster", "slower", "no difference shown"]


class _Part(BaseModel):
    # Other keys are for people, and for other programs.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class TimingPart(_Part):
    """Milliseconds of single runs: the median window's median, the fastest and the slowest window's."""

    median_ms: float = Field(gt=0)
    low_ms: float = Field(gt=0)
    high_ms: float = Field(gt=0)


class EnginePart(_Part):
    """What was timed."""

    version: str | None
    precision: str


class SubnetPart(_Part):
    """Timings of one network by protocol and engine."""

    subnet: str
    protocols: dict[str, dict[str, TimingPart]]


class StabilityPart(_Part):
    """Whether windows agreed."""

    verdict: str


class BenchResult(_Part):
    """What ``bench --export`` writes, as far as two of them are compared."""

    format: Literal["ofa_tvm.benchmark"]
    schema_version: Literal[1]
    created_at: str
    machine: str
    machine_facts: Record
    target: str
    threads: int
    space: str
    seed: int
    engines: dict[str, EnginePart]
    subnets: tuple[SubnetPart, ...] = Field(min_length=1)
    stability: StabilityPart | None = None

    @property
    def conditions(self) -> Record:
        """What two results must share to be compared."""
        return {
            "machine": self.machine,
            "cores": self.machine_facts.get("cores"),
            "target": self.target,
            "threads": self.threads,
            "space": self.space,
            "seed": self.seed,
            "subnets": [row.subnet for row in self.subnets],
            **{f"precision of {name}": engine.precision for name, engine in self.engines.items()},
        }


def export(path: Path, payload: Record) -> None:
    """Write a benchmark's record for ``read_result``."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(path, {"format": FORMAT, "schema_version": SCHEMA_VERSION, "created_at": now, **payload})


def read_result(path: Path) -> BenchResult:
    """Read an exported benchmark.

    Raises:
        UserError: it is missing, damaged, or something else; names the field.
    """
    try:
        return BenchResult.model_validate(read_json(path, "benchmark"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        hint = "make one with 'python -m ofa_tvm.bench --export FILE'"
        raise UserError(f"{path} is no exported benchmark: '{where}': {first['msg']}", hint) from error


@dataclass(frozen=True)
class Change:
    """An engine's speed in the second result over that in the first: geometric mean over subnets.

    ``low`` and ``high`` are the same with the windows that say the least and the most for the second.
    """

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Whether the difference is outside the windows' spread, and more than ``ALIKE``."""
        if self.low > 1 + ALIKE:
            return "faster"
        return "slower" if self.high * (1 + ALIKE) < 1 else "no difference shown"

    def record(self) -> Record:
        """As a JSON object."""
        return {**asdict(self), "verdict": self.verdict}


def compare_results(first: BenchResult, second: BenchResult, anyway: bool) -> Record:
    """How the second result differs from the first.

    Engines of the same version in both, but ours, are the control: as far as they changed, the machine did.

    Args:
        first: a result.
        second: another one.
        anyway: compare results of different machines or conditions, too.

    Raises:
        UserError: conditions differ, or no engine or subnet is in both.
    """
    differences = _differences(first.conditions, second.conditions)
    if differences and not anyway:
        said = "; ".join(f"{name}: {one} and {other}" for name, (one, other) in differences.items())
        raise UserError(f"the results differ in more than versions: {said}", "--anyway compares them all the same")
    names = [name for name in first.engines if name in second.engines]
    rows = {row.subnet: row.protocols for row in second.subnets}
    pairs = [(row.protocols, rows[row.subnet]) for row in first.subnets if row.subnet in rows]
    if not names or not pairs:
        raise UserError("the results share no engine and subnet", "run the same bench twice")
    same = [name for name in names if name not in OWN and first.engines[name].version == second.engines[name].version]
    protocols = [name for name in pairs[0][0] if name in pairs[0][1]]
    changes = {protocol: {name: _change(pairs, protocol, name) for name in names} for protocol in protocols}
    return {
        "created_at": [first.created_at, second.created_at],
        "unstable": [
            result.created_at
            for result in (first, second)
            if result.stability is not None and result.stability.verdict == "unstable"
        ],
        "differences": {name: list(values) for name, values in differences.items()},
        "versions": {name: [first.engines[name].version, second.engines[name].version] for name in names},
        "subnets": len(pairs),
        "changes": {
            protocol: {name: change.record() for name, change in found.items()} for protocol, found in changes.items()
        },
        "unchanged_engines": same,
        "ours_beside_them": {
            protocol: _beside([found[name] for name in same], found[OURS]).record()
            for protocol, found in changes.items()
            if same and OURS in found
        },
    }


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    shared = [name for name in one if name in other]
    return {name: (one[name], other[name]) for name in shared if one[name] != other[name]}


def _change(pairs: Iterable[tuple[Any, Any]], protocol: str, name: str) -> Change:
    timings = [(one[protocol][name], other[protocol][name]) for one, other in pairs]
    return Change(
        _geomean(one.median_ms / other.median_ms for one, other in timings),
        _geomean(one.low_ms / other.high_ms for one, other in timings),
        _geomean(one.high_ms / other.low_ms for one, other in timings),
    )


def _beside(control: list[Change], ours: Change) -> Change:
    def part(of: Callable[[Change], float]) -> float:
        return _geomean(map(of, control))

    return Change(
        ours.ratio / part(lambda one: one.ratio),
        ours.low / part(lambda one: one.high),
        ours.high / part(lambda one: one.low),
    )


def _geomean(ratios: Iterable[float]) -> float:
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs))
