"""One search from beginning to end: supernet, measurements, evaluations, picks, and the result on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from ofa_tvm.accuracy.source import AccuracySource
from ofa_tvm.cost_model.power import UNKNOWN
from ofa_tvm.measurement.latency_bench import LatencyBench, warn_of_estimates
from ofa_tvm.nas.budget_search import Finder
from ofa_tvm.nas.earlier import REGRET
from ofa_tvm.nas.feasibility import all_infeasible
from ofa_tvm.nas.regret import Regret, regret
from ofa_tvm.nas.result import FILE_NAME, FrontPoint, Pick, UnmetBudget, load_search_result
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.command import SCHEMA_VERSION
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import Infeasible, UserError
from ofa_tvm.support.files import Record, read_json, write_json
from ofa_tvm.support.ledger import Cost, Ledger, other_attempt
from ofa_tvm.support.version import VERSION
from ofa_tvm.timing.core_rates import core_rates
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.tuned_space import Target, TunedSpace
from ofa_tvm.tuner.tuning_facts import tuning_facts


class TargetSearch:
    """The search on one target.

    Args:
        named: the target as the user named it.
        tuned: what is searched; its log is held exclusively by the caller.
        device: measures subnets on it; None where they are measured elsewhere, by packs.
        folder: where the result goes.
        settings: how hard to search, and for what.
        command: the command line that searches the same.
    """

    def __init__(
        self,
        named: Target,
        tuned: TunedSpace,
        device: Device | None,
        folder: Path,
        settings: SearchSettings,
        command: str = "",
    ) -> None:
        self.named, self.target, self.log = named, tuned.target, tuned.log
        self.device, self.folder, self.settings, self.command = device, folder, settings, command
        self.bench = LatencyBench(tuned, device, settings.percentile, settings.busy_cores)
        self._finder: Finder | None = None
        self.infeasible: list[UnmetBudget] = []
        self.ledger = Ledger(folder / "ledger.jsonl")
        self._earlier_phases = len(self.ledger.costs())
        self.picks: list[Pick] = []
        self.front: list[FrontPoint] = []
        self.front_rounds = 0
        self._result: Record | None = None

    @property
    def finder(self) -> Finder:
        """The loop, once ``search`` has begun it."""
        if self._finder is None:
            raise RuntimeError("search() comes first")
        return self._finder

    def measure(self, samples: int) -> None:
        """Measure subnets until the latency model has enough, and how fast the machine is now.

        Raises:
            UserError: energy is asked for, and none was metered.
        """
        warn_of_estimates(self.bench, self.settings.resolutions)
        with self.ledger.phase("measure subnets"):
            if self.device is not None:
                self.device.start()
            self.bench.anchor()
            self.bench.measure_samples(samples, resolutions=self.settings.resolutions)
        if self.settings.asks_energy and self.bench.power() == UNKNOWN:
            raise UserError(
                f"what calls on {self.target.name} draw is not known: no energy was metered with its latencies",
                f"measure some where its driver counts energy: python -m ofa_tvm.tune {self.target.options} "
                "--export-pack FOLDER --trials 0 --samples 20; or leave energy out",
            )

    def search(self, accuracy: AccuracySource, budgets: Sequence[float]) -> None:
        """Find and verify the picks.

        Raises:
            Infeasible: none of the budgets can be met, and nothing that waits to be measured could change that.
        """
        with self.ledger.phase("search and verify"):
            self._finder = Finder(self.bench, accuracy, self.settings)
            if budgets:
                self.picks = self._for_budgets(budgets)
                self.front, self.front_rounds = self.finder.models.front(), len(self.finder.rounds)
            else:
                self.front = self.finder.models.front()
                self.picks = self.finder.along_front(self.front)

    def _for_budgets(self, budgets: Sequence[float]) -> list[Pick]:
        """The picks of the budgets that can be met; the others are noted in ``infeasible``."""
        picks, errors = [], []
        for budget in budgets:
            try:
                picks.append(self.finder.for_budget(budget))
            except Infeasible as error:
                log(error.what)
                nearest, nearest_ms = self.finder.nearest()
                self.infeasible.append(UnmetBudget(budget_ms=budget, nearest_ms=nearest_ms, nearest_subnet=nearest.key))
                errors.append(error)
        if not picks and not self.bench.wanted:
            raise all_infeasible(errors, budgets)
        return picks

    def _core_rates(self) -> Record | None:
        rates = core_rates() if self.target.is_this_cpu else None
        return None if rates is None else asdict(rates)

    def take_up(self, accuracy: AccuracySource, sha256: str) -> bool:
        """Whether a search that did not finish its other targets left its picks here; they are taken as they are.

        Args:
            accuracy: of the supernet.
            sha256: of the supernet.
        """
        path = self.folder / FILE_NAME
        try:
            left = load_search_result(self.folder)
        except UserError:
            return False
        if left.unfinished != self._work(sha256):
            return False
        log(f"{self.target.name} is done: {path}")
        self._finder = Finder(self.bench, accuracy, self.settings)
        self.picks, self.front, self.infeasible = list(left.picks), list(left.front), list(left.infeasible)
        self._result = read_json(path, "search result")
        return True

    def _work(self, sha256: str) -> str:
        """Identity of what is searched for, with what the device builds: the same work has the same picks to offer."""
        schedules = self.log.schedules_digest(list(self.bench.tuned.kernels()))
        facts = [self.command, self.target.fingerprint, sha256, schedules]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def result(
        self,
        supernet: Path,
        sha256: str,
        accuracy: AccuracySource,
        budgets: Sequence[float],
        *,
        is_kept: bool = False,
    ) -> Record:
        """What ``search_result`` reads; written to the folder too.

        ``is_kept``: the same search has other targets to finish; until then, ``take_up`` finds this one's.
        """
        if self._result is None:
            self._result = self._payload(supernet, sha256, accuracy, budgets)
        self._result |= {"unfinished": self._work(sha256) if is_kept else ""}
        write_json(self.folder / FILE_NAME, {"schema_version": SCHEMA_VERSION, **self._result})
        return self._result

    def _payload(self, supernet: Path, sha256: str, accuracy: AccuracySource, budgets: Sequence[float]) -> Record:
        log("rating the models by what they did not learn from ...")
        with self.ledger.phase("rate the models"):
            latency_quality, accuracy_quality = self.bench.fit_and_save(), accuracy.report()
        return {
            "space": self.bench.space.name,
            "supernet": str(supernet),
            "supernet_sha256": sha256,
            "target": self.target.name,
            "target_source": self.named.source,
            "device": self.named.device,
            "provenance": self.target.provenance,
            "threads": self.target.threads,
            "batch": self.target.batch,
            "dtype": self.target.dtype,
            "fingerprint": self.target.fingerprint,
            "conditions": self.target.conditions,
            "budgets_ms": list(budgets),
            "percentile": self.settings.percentile,
            "busy_cores": self.settings.busy_cores,
            "infeasible": _records(self.infeasible),
            "picks": _records(self.picks),
            "front": _records(self.front),
            "front_rounds": self.front_rounds,
            "unmeasured": list(self.bench.wanted),
            "rounds": _records(self.finder.rounds),
            "cost_model": latency_quality,
            "accuracy_predictor": None if accuracy_quality is None else asdict(accuracy_quality),
            "accuracy_note": accuracy.note,
            "command": self.command,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "ofa_tvm": VERSION,
            "core_rates": self._core_rates(),
            "tuning": asdict(tuning_facts(self.bench.tuned, self.finder.models.drawn.resolutions)),
            "cost": [cost.record() for cost in self._costs()],
            "folder": str(self.folder),
        }

    def _costs(self) -> list[Cost]:
        """Of this run, after those of earlier ones in the same folder, which this one's result replaces."""
        costs = self.ledger.costs()
        earlier = [replace(cost, phase=other_attempt(cost.phase)) for cost in costs[: self._earlier_phases]]
        return [*earlier, *costs[self._earlier_phases :]]


def _records(values: Sequence[BaseModel]) -> list[Record]:
    return [value.model_dump() for value in values]


def cross_target(searches: Sequence[TargetSearch]) -> list[Regret]:
    """Every target's picks on every target; none of those that have no picks yet."""
    every = [SubnetConfig.parse(pick.subnet) for search in searches for pick in search.picks]
    for on in searches:
        on.bench.measure(every, f"measuring all picks on {on.target.name}")
    return [
        regret(shipped.target.name, shipped.picks, on.target.name, on.finder, on.picks)
        for shipped in searches
        for on in searches
        if shipped.picks and on.picks
    ]


def waits_elsewhere(searches: Sequence[TargetSearch]) -> bool:
    """Whether a pick is still to be measured on a target that packs measure."""
    every = [SubnetConfig.parse(pick.subnet) for search in searches for pick in search.picks]
    return any(on.device is None and on.bench.latency_ms(config) is None for on in searches for config in every)


def write_regret(folder: Path, matrix: Sequence[Regret]) -> Path:
    """Keep a regret matrix as ``regret.json``."""
    path = folder / REGRET
    write_json(path, {"schema_version": SCHEMA_VERSION, "regret": [entry.record() for entry in matrix]})
    return path
