"""Finder: believes predictions only until the finalists are measured.

Candidates meet a budget by the upper end of the latency interval; finalists are compiled, measured on the device and
evaluated on held-out images; both predictors learn from them, and the loop repeats (design: measured, fed back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.samples import AccuracySamples, Evaluate
from ofa_tvm.console import log
from ofa_tvm.errors import Infeasible, PartialResult
from ofa_tvm.latency import LatencyBench
from ofa_tvm.search_result import Pick
from ofa_tvm.searchers import SEARCHERS
from ofa_tvm.searchers.base import relative_excess
from ofa_tvm.searchers.optimise import optimise
from ofa_tvm.spaces import Genomes, SubnetConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SearchSettings:
    """How long to search and how many finalists to measure in each round."""

    searcher: str = "nsga2"
    evaluations: int = 10_000
    population: int = 200
    finalists: int = 4
    rounds: int = 2
    most_rounds: int = 5
    front_picks: int = 8
    seed: int = 0


@dataclass(frozen=True)
class _Prediction:
    latency: tuple[float, float, float]
    top1: float


class Finder:
    """Searches one space for one target.

    Args:
        bench: measures latencies and fits the latency model; enough subnets are known to it.
        samples: evaluated accuracies, enough for a predictor.
        evaluate: evaluates one subnet on the held-out images.
        settings: how hard to search.
    """

    def __init__(
        self, bench: LatencyBench, samples: AccuracySamples, evaluate: Evaluate, settings: SearchSettings
    ) -> None:
        self.bench, self.samples, self.settings = bench, samples, settings
        self.space = bench.space
        self._evaluate = evaluate
        self._first: dict[str, _Prediction] = {}
        self.rounds: list[dict[str, Any]] = []
        self._fit()

    def _fit(self) -> None:
        self.latency = self.bench.fit()
        self.accuracy = self.samples.predictor()

    def _search(self, budget_ms: float | None, seed: int) -> tuple[Genomes, Floats]:
        """Front of one search, (k, genes), and [-top1, latency in ms], (k, 2)."""
        settings = self.settings
        searcher = SEARCHERS[settings.searcher](self.space, np.random.default_rng((settings.seed, seed)))

        def score(genomes: Genomes) -> tuple[Floats, Floats]:
            mean_ms, _, high_ms = self.latency.predict(genomes)
            objectives = np.stack([-self.accuracy.predict(genomes)[0], mean_ms], axis=1)
            violations = np.zeros(len(genomes)) if budget_ms is None else relative_excess(high_ms, budget_ms)
            return objectives, violations

        ends = self.space.genomes([self.space.smallest, self.space.largest])
        optimise(searcher, score, settings.evaluations, settings.population, ends)
        return searcher.front()

    def front(self) -> list[dict[str, Any]]:
        """The predicted front: subnet, latency in ms and top-1 fraction, fastest first."""
        genomes, objectives = self._search(None, 0)
        order = np.argsort(objectives[:, 1])
        return [
            {
                "subnet": self.space.config(genomes[row]).key,
                "predicted_ms": float(objectives[row, 1]),
                "predicted_top1": float(-objectives[row, 0]),
            }
            for row in order
        ]

    def for_budget(self, budget_ms: float) -> Pick:
        """The most accurate subnet found whose measured latency holds the budget.

        Raises:
            Infeasible: even the fastest subnets measured are slower; names the nearest.
        """
        tried: dict[str, SubnetConfig] = {}
        for number in range(self.settings.most_rounds):
            finalists = self._finalists(budget_ms, number, tried)
            tried.update({config.key: config for config in finalists})
            self._verify(finalists, budget_ms)
            holding = self._holding(list(tried.values()), budget_ms)
            self._fit()
            if (holding and number + 1 >= self.settings.rounds) or not finalists:
                break
            if not holding and number == 0:
                self._require_feasible(budget_ms)
        pick = self._confirmed(tried, budget_ms) or self._among_known(tried, budget_ms)
        if pick is None:
            raise self._infeasible(budget_ms)
        return pick

    def _finalists(self, budget_ms: float, number: int, tried: dict[str, SubnetConfig]) -> list[SubnetConfig]:
        genomes, objectives = self._search(budget_ms, number)
        configs = [self.space.config(genomes[row]) for row in np.argsort(objectives[:, 0])]
        if not configs:
            configs = self._fastest()
        new = [config for config in configs if config.key not in tried]
        return new[: self.settings.finalists]

    def _fastest(self) -> list[SubnetConfig]:
        rng = np.random.default_rng(self.settings.seed)
        genomes = np.concatenate([self.space.genomes([self.space.smallest]), self.space.sample(rng, 5000)])
        order = np.argsort(self.latency.predict(genomes)[0])
        fastest = {self.space.config(genomes[row]).key: self.space.config(genomes[row]) for row in order[:20]}
        return [self.space.smallest, *(config for config in fastest.values() if config != self.space.smallest)]

    def _verify(self, configs: list[SubnetConfig], budget_ms: float | None) -> None:
        """Measure and evaluate subnets, and note how far off the latencies were of those not measured before."""
        if not configs:
            return
        # The models have learned from these already: their errors would flatter them.
        learned = {config.key for config in self.bench.known()[0]}
        genomes = self.space.genomes(configs)
        mean, low, high = self.latency.predict(genomes)
        top1 = self.accuracy.predict(genomes)[0]
        for row, config in enumerate(configs):
            latency = (float(mean[row]), float(low[row]), float(high[row]))
            self._first.setdefault(config.key, _Prediction(latency, float(top1[row])))
        records = self.bench.measure(configs, "measuring finalists")
        self.samples.evaluate(configs, self._evaluate)
        new = [record for record in records if record.status == "ok" and record.subnet not in learned]
        errors = [abs(self._first[record.subnet].latency[0] / self.bench.latency_ms(record) - 1) for record in new]
        kept = sum(r.status == "ok" and (budget_ms is None or self.bench.latency_ms(r) <= budget_ms) for r in records)
        self.rounds.append(
            {
                "budget_ms": budget_ms,
                "finalists": [config.key for config in configs],
                "within_budget": kept,
                "mean_latency_error": float(np.mean(errors)) if errors else None,
            }
        )

    def _holding(self, configs: list[SubnetConfig], budget_ms: float) -> list[SubnetConfig]:
        """Configs measured within the budget, most accurate first."""
        known = dict(zip((config.key for config in self.bench.known()[0]), self.bench.known()[1], strict=True))
        good = [config for config in configs if known.get(config.key, np.inf) <= budget_ms]
        return sorted(good, key=lambda config: -self.samples.top1[config.key])

    def _confirmed(self, tried: dict[str, SubnetConfig], budget_ms: float) -> Pick | None:
        """The most accurate finalist that holds the budget in a second measurement too."""
        while holding := self._holding(list(tried.values()), budget_ms):
            record = self.bench.confirm(holding[0])
            if record.status == "ok" and self.bench.latency_ms(record) <= budget_ms:
                return self.pick(holding[0], budget_ms)
            log(f"{holding[0].key} broke {budget_ms:g} ms when measured again; taking the next")
        return None

    def _among_known(self, tried: dict[str, SubnetConfig], budget_ms: float) -> Pick | None:
        """The confirmed best of the other subnets measured within the budget, in batches by predicted accuracy."""
        while others := self._untried_within(tried, budget_ms):
            order = np.argsort(-self.accuracy.predict(self.space.genomes(others))[0])
            batch = [others[row] for row in order[: self.settings.finalists]]
            tried.update({config.key: config for config in batch})
            self._verify(batch, budget_ms)
            pick = self._confirmed(tried, budget_ms)
            if pick is not None:
                return pick
        return None

    def _untried_within(self, tried: dict[str, SubnetConfig], budget_ms: float) -> list[SubnetConfig]:
        configs, latency_ms = self.bench.known()
        return [
            config
            for config, latency in zip(configs, latency_ms, strict=True)
            if latency <= budget_ms and config.key not in tried
        ]

    def pick(self, config: SubnetConfig, budget_ms: float | None, number: int = 0) -> Pick:
        """What is known of a verified subnet."""
        network = self.space.network(config)
        measured_ms = self.bench.latency_ms(self.bench.measure([config])[0])
        first = self._first[config.key]
        return Pick(
            number=number,
            subnet=config.key,
            budget_ms=budget_ms,
            predicted_ms=first.latency[0],
            predicted_low_ms=first.latency[1],
            predicted_high_ms=first.latency[2],
            measured_ms=measured_ms,
            predicted_top1=first.top1,
            validation_top1=self.samples.top1[config.key],
            macs=network.macs,
            parameters=network.parameters,
            held=None if budget_ms is None else measured_ms <= budget_ms,
        )

    def _require_feasible(self, budget_ms: float) -> None:
        """Stop early when the fastest subnets are measured and too slow."""
        self.bench.measure(self._fastest()[:3], "measuring the fastest")
        if self.bench.known()[1].min() > budget_ms:
            raise self._infeasible(budget_ms)

    def _infeasible(self, budget_ms: float) -> Infeasible:
        nearest, nearest_ms = self.nearest()
        return Infeasible(
            f"no subnet of {self.space.name} was measured within {budget_ms:g} ms on {self.bench.target.name}",
            f"the nearest is {nearest_ms:.4g} ms ({nearest.key}); try --max-latency-ms {nearest_ms * 1.02:.3g}",
        )

    def nearest(self) -> tuple[SubnetConfig, float]:
        """The fastest subnet measured, and its latency in ms."""
        configs, latency_ms = self.bench.known()
        fastest = int(np.argmin(latency_ms))
        return configs[fastest], float(latency_ms[fastest])

    def along_front(self, front: list[dict[str, Any]]) -> list[Pick]:
        """Measured picks spread over the predicted front, those that are not dominated, fastest first.

        Raises:
            PartialResult: none of them could be measured.
        """
        spread = np.linspace(0, len(front) - 1, min(self.settings.front_picks, len(front))).round().astype(int)
        configs = [SubnetConfig.parse(front[row]["subnet"]) for row in spread]
        self._verify(configs, None)
        known = {config.key for config in self.bench.known()[0]}
        picks = [self.pick(config, None) for config in configs if config.key in known]
        if not picks:
            raise PartialResult("no subnet of the front could be measured", "see latency.jsonl in the tuning log")
        picks.sort(key=lambda pick: (pick.measured_ms or 0.0, -(pick.validation_top1 or 0.0)))
        best, kept = -1.0, []
        for pick in picks:
            if (pick.validation_top1 or 0.0) > best:
                best = pick.validation_top1 or 0.0
                kept.append(pick)
        return kept
