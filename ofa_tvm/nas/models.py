"""The models of a search on one target: what they predict, and the subnets that they propose to be measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.accuracy.source import AccuracySource
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.nas.feasibility import require_reachable
from ofa_tvm.nas.objectives import ENERGY, LATENCY, OBJECTIVES
from ofa_tvm.nas.result import FrontPoint
from ofa_tvm.nas.searchers import SEARCHERS
from ofa_tvm.nas.searchers.base import relative_excess
from ofa_tvm.nas.searchers.optimise import optimise
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import Genomes, SubnetConfig

Floats = NDArray[np.float64]

GUARD = 0.02
"""Share of a budget that a pick leaves free, as later measurements of a subnet may differ by that much."""


class Models:
    """Latency, accuracy and other costs of a space's subnets on one target, as predicted.

    Args:
        bench: fits the latency model; enough subnets are known to it.
        accuracy: predicts accuracies.
        settings: how hard to search, and for what.
    """

    def __init__(self, bench: LatencyBench, accuracy: AccuracySource, settings: SearchSettings) -> None:
        self._bench, self._accuracy, self._settings = bench, accuracy, settings
        self._space = bench.space
        self.drawn = bench.space.with_resolutions(settings.resolutions)
        self.limits = dict(settings.limits or {})
        self.latency, self._power = bench.fit(), bench.power()

    def learn(self) -> None:
        """Fit them to what was measured and evaluated since."""
        self._power = self._bench.power()
        self.latency = self._bench.fit()
        self._accuracy.fit()

    def _costs(self, name: str, genomes: Genomes) -> Floats:
        return OBJECTIVES[name].values(self.latency, self._power, genomes)

    def cost(self, name: str, config: SubnetConfig) -> float:
        """Value of an objective for one subnet: metered energy where there is some, else as predicted."""
        metered = self._bench.energy_mj(config) if name == ENERGY else None
        return float(self._costs(name, self._space.genomes([config]))[0]) if metered is None else metered

    def meets_limits(self, config: SubnetConfig) -> bool:
        """Whether a subnet is within all limits but that of latency, and of a resolution that may be taken."""
        within = all(self.cost(name, config) <= limit for name, limit in self.limits.items())
        return within and config.resolution in self.drawn.resolutions

    def require_reachable(self, budget_ms: float | None = None) -> None:
        """Refuse limits that no subnet can meet.

        Raises:
            Infeasible: naming the limit and the nearest subnet.
        """
        budget = {} if budget_ms is None else {LATENCY: budget_ms}
        require_reachable(self.latency, self._power, self._space, self.drawn, {**budget, **self.limits})

    def _search(self, budget_ms: float | None, seed: int) -> tuple[list[SubnetConfig], Floats]:
        """Front of one search: subnets, and [-top1, latency in ms, other objectives], (k, m)."""
        settings = self._settings
        searcher = SEARCHERS[settings.searcher](self.drawn, np.random.default_rng((settings.seed, seed)))

        def score(drawn: Genomes) -> tuple[Floats, Floats]:
            genomes = self._space.lift(drawn, self.drawn)
            mean_ms, _, high_ms = self.latency.predict(genomes)
            others = [self._costs(name, genomes) for name in settings.objectives]
            violations = np.zeros(len(genomes))
            if budget_ms is not None:
                violations = relative_excess(high_ms, (1 - GUARD) * budget_ms)
            for name, limit in self.limits.items():
                violations = violations + relative_excess(self._costs(name, genomes), limit)
            return np.stack([-self._accuracy.predict(genomes), mean_ms, *others], axis=1), violations

        seeds = [*map(SubnetConfig.parse, settings.start), *self._bench.known()[0]]
        seeds = [config for config in seeds if config.resolution in self.drawn.resolutions]
        start = self.drawn.genomes([self.drawn.smallest, self.drawn.largest, *seeds])
        optimise(searcher, score, settings.evaluations, settings.population, start)
        genomes, objectives = searcher.front()
        return [self.drawn.config(genome) for genome in genomes], objectives

    def for_budget(self, budget_ms: float, number: int) -> list[SubnetConfig]:
        """What a round's search finds within a budget, the most accurate first; the fastest where it finds nothing."""
        configs, objectives = self._search(budget_ms, number)
        return [configs[row] for row in np.argsort(objectives[:, 0])] if configs else self.fastest()

    def front(self) -> list[FrontPoint]:
        """The predicted front, fastest first."""
        configs, objectives = self._search(None, 0)
        return [
            FrontPoint(
                subnet=configs[row].key,
                predicted_ms=float(objectives[row, 1]),
                predicted_top1=min(1.0, float(-objectives[row, 0])),
                objectives=dict(zip(self._settings.objectives, objectives[row, 2:].tolist(), strict=True)),
            )
            for row in np.argsort(objectives[:, 1])
        ]

    def fastest(self) -> list[SubnetConfig]:
        """Subnets that should be the fastest within the other limits."""
        certain = [self.latency.fastest(self.drawn.resolutions), self.drawn.smallest]
        sampled = self.drawn.sample(np.random.default_rng(self._settings.seed), 5000)
        genomes = np.concatenate([self.drawn.genomes(certain), sampled])
        lifted = self._space.lift(genomes, self.drawn)
        meets = np.ones(len(genomes), dtype=bool)
        for name, limit in self.limits.items():
            meets &= self._costs(name, lifted) <= limit
        order = np.argsort(self.latency.mean_ms(lifted))
        configs = [self.drawn.config(genomes[row]) for row in order if meets[row]]
        return list({config.key: config for config in configs[:20]}.values())
