"""Finder: believes predictions only until the finalists are measured.

Candidates meet a budget by the upper end of the latency interval; finalists are compiled, measured on the device and
evaluated on held-out images; both predictors learn from them, and the loop repeats (design: measured, fed back).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from moocore import is_nondominated

from ofa_tvm.accuracy.source import AccuracySource
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.measurement.layer_times import layer_times
from ofa_tvm.nas.models import GUARD, Models
from ofa_tvm.nas.objectives import LATENCY, OBJECTIVES
from ofa_tvm.nas.result import FrontPoint, Pick, SearchRound, Verified
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.spaces.subnet_blocks import subnet_blocks
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import Infeasible, PartialResult

FASTEST = 3
"""Subnets predicted to be the fastest; they are measured before a budget is called infeasible."""


@dataclass(frozen=True)
class _Prediction:
    latency: tuple[float, float, float]
    top1: float


class Finder:
    """Searches one space for one target.

    Args:
        bench: measures latencies and fits the latency model; enough subnets are known to it.
        accuracy: predicts accuracies, and evaluates subnets on held-out images.
        settings: how hard to search, and for what.
    """

    def __init__(self, bench: LatencyBench, accuracy: AccuracySource, settings: SearchSettings) -> None:
        self.bench, self.accuracy, self.settings = bench, accuracy, settings
        self.space = bench.space
        self.models = Models(bench, accuracy, settings)
        self._first: dict[str, _Prediction] = {}
        self.rounds: list[SearchRound] = []

    def for_budget(self, budget_ms: float) -> Pick:
        """The most accurate subnet found whose measured latency holds the budget.

        Raises:
            Infeasible: even the fastest subnets are slower; names the nearest.
        """
        self.models.require_reachable(budget_ms)
        tried: dict[str, SubnetConfig] = {}
        for number in range(self.settings.most_rounds):
            finalists = self._finalists(budget_ms, number, tried)
            tried.update({config.key: config for config in finalists})
            self._verify(finalists, budget_ms)
            holding = self._holding(list(tried.values()), budget_ms)
            self.models.learn()
            is_settled = bool(holding) or not self.bench.can_measure
            if (is_settled and number + 1 >= self.settings.rounds) or not finalists:
                break
            if not holding and number == 0:
                self._require_feasible(budget_ms)
        pick = self._confirmed(tried, budget_ms) or self._among_known(tried, budget_ms)
        if pick is None:
            raise self._infeasible(budget_ms)
        return pick

    def _finalists(self, budget_ms: float, number: int, tried: dict[str, SubnetConfig]) -> list[SubnetConfig]:
        ordered = self.models.for_budget(budget_ms, number)
        new = [config for config in ordered if config.key not in tried][: self.settings.finalists]
        if number == 0 and self.models.drawn.smallest not in new:
            new.append(self.models.drawn.smallest)  # subnets no better than it are not offered
        return new

    def _verify(self, configs: list[SubnetConfig], budget_ms: float | None) -> None:
        """Measure and evaluate subnets; note the errors of predicted latencies for those not measured before."""
        if not configs:
            return
        # The models have learned from these already: their errors would flatter them.
        learned = {config.key for config in self.bench.known()[0]}
        genomes = self.space.genomes(configs)
        mean, low, high = self.models.latency.predict(genomes)
        top1 = self.accuracy.predict(genomes)
        for row, config in enumerate(configs):
            latency = (float(mean[row]), float(low[row]), float(high[row]))
            self._first.setdefault(config.key, _Prediction(latency, float(top1[row])))
        measured = dict(zip(configs, self.bench.measure(configs, "measuring finalists"), strict=True))
        self.accuracy.evaluate(configs)
        good = {config: latency_ms for config, latency_ms in measured.items() if latency_ms is not None}
        errors = [
            abs(self._first[config.key].latency[0] / latency_ms - 1)
            for config, latency_ms in good.items()
            if config.key not in learned
        ]
        self.rounds.append(
            SearchRound(
                budget_ms=budget_ms,
                finalists=tuple(config.key for config in configs),
                within_budget=sum(budget_ms is None or latency_ms <= budget_ms for latency_ms in good.values()),
                mean_latency_error=float(np.mean(errors)) if errors else None,
                verified=tuple(
                    self._verified(config, latency_ms, config.key not in learned) for config, latency_ms in good.items()
                ),
            )
        )

    def _verified(self, config: SubnetConfig, latency_ms: float, is_new: bool) -> Verified:
        first = self._first[config.key]
        return Verified(
            subnet=config.key,
            predicted_ms=first.latency[0],
            predicted_low_ms=first.latency[1],
            predicted_high_ms=first.latency[2],
            verified_ms=latency_ms,
            predicted_top1=min(1.0, first.top1),
            validation_top1=self.accuracy.validated(config),
            is_new=is_new,
        )

    def top1(self, config: SubnetConfig) -> float:
        """The best estimate of a subnet's accuracy: validated and predicted together, or else predicted."""
        return self.accuracy.estimate(config).top1

    def _holds(self, config: SubnetConfig, budget_ms: float) -> bool:
        """Whether a subnet may be offered: its latency leaves ``GUARD`` free, and no window breaks the budget.

        Where too many windows are disturbed, one window within the budget is enough: the pick is offered as unsure.
        """
        if not self.models.meets_limits(config):
            return False
        latency_ms, timing = self.bench.latency_ms(config), self.bench.timing(config)
        if timing is not None and not timing.is_sound:
            return timing.spread_ms(self.bench.percentile)[0] <= budget_ms
        if latency_ms is None or latency_ms > (1 - GUARD) * budget_ms:
            return False
        return timing is None or timing.slowest_ms(self.bench.percentile) <= budget_ms

    def _holding(self, configs: list[SubnetConfig], budget_ms: float) -> list[SubnetConfig]:
        """Configs measured within the budget, most accurate first."""
        return sorted((config for config in configs if self._holds(config, budget_ms)), key=self.top1, reverse=True)

    def _confirmed(self, tried: dict[str, SubnetConfig], budget_ms: float) -> Pick | None:
        """The most accurate finalist that holds the budget when it is measured more often, too."""
        while holding := self._holding(list(tried.values()), budget_ms):
            chosen = self._fastest_of_the_best(holding)
            self.bench.confirm(chosen)
            if self._holds(chosen, budget_ms):
                return self.pick(chosen, budget_ms)
            log(f"{chosen.key} broke {budget_ms:g} ms when measured again; taking the next")
        return None

    def _fastest_of_the_best(self, configs: Sequence[SubnetConfig]) -> SubnetConfig:
        """Ties go to the faster: of those within a standard error of the best, most accurate first in ``configs``.

        This is the rule of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3.
        """
        best = self.accuracy.estimate(configs[0])
        tied = []
        for config in configs:
            estimate = self.accuracy.estimate(config)
            if best.top1 - estimate.top1 <= math.hypot(best.error, estimate.error):
                tied.append(config)
        return min(tied, key=lambda config: self.bench.latency_ms(config) or math.inf)

    def _among_known(self, tried: dict[str, SubnetConfig], budget_ms: float) -> Pick | None:
        """The confirmed best of the other subnets measured within the budget, in batches by predicted accuracy."""
        while others := self._untried_within(tried, budget_ms):
            order = np.argsort(-self.accuracy.predict(self.space.genomes(others)))
            batch = [others[row] for row in order[: self.settings.finalists]]
            tried.update({config.key: config for config in batch})
            self._verify(batch, budget_ms)
            pick = self._confirmed(tried, budget_ms)
            if pick is not None:
                return pick
        return None

    def _untried_within(self, tried: dict[str, SubnetConfig], budget_ms: float) -> list[SubnetConfig]:
        known = self.bench.known()[0]
        return [config for config in known if config.key not in tried and self._holds(config, budget_ms)]

    def pick(self, config: SubnetConfig, budget_ms: float | None, number: int = 0) -> Pick:
        """What is known of a verified subnet."""
        network = self.space.network(config)
        verified_ms = self.bench.latency_ms(config)
        is_measured = self.bench.target.provenance == "measured"
        timing = self.bench.timing(config)
        first = self._first[config.key]
        validated = self.accuracy.validated(config)
        return Pick(
            number=number,
            subnet=config.key,
            budget_ms=budget_ms,
            predicted_ms=first.latency[0],
            predicted_low_ms=first.latency[1],
            predicted_high_ms=first.latency[2],
            measured_ms=verified_ms if is_measured else None,
            estimated_ms=None if is_measured else verified_ms,
            predicted_top1=min(1.0, first.top1),
            validation_top1=validated,
            validation_error=None if validated is None else self.accuracy.error(validated),
            expected_top1=self.top1(config),
            macs=network.macs,
            parameters=network.parameters,
            peak_activation_bytes=network.peak_activation_bytes,
            objectives={name: self.models.cost(name, config) for name in self.settings.objectives},
            timing=timing,
            energy_mj=self.bench.energy_mj(config),
            held=None if budget_ms is None else self.held(config, budget_ms),
            blocks=subnet_blocks(self.space, config),
            layers=layer_times(self.bench.tuned, config, verified_ms or first.latency[0]),
        )

    def held(self, config: SubnetConfig, budget_ms: float) -> bool | None:
        """Whether a budget is held; None where nothing was measured, or others disturbed the machine too much."""
        slowest_ms, timing = self.bench.slowest_ms(config), self.bench.timing(config)
        if slowest_ms is None or (timing is not None and not timing.is_sound):
            return None
        return slowest_ms <= budget_ms

    def _require_feasible(self, budget_ms: float) -> None:
        """Stop early when the fastest subnets are measured and too slow."""
        self.bench.measure(self.models.fastest()[:FASTEST], "measuring the fastest")
        if self.bench.known()[1].min() > budget_ms:
            raise self._infeasible(budget_ms)

    def _infeasible(self, budget_ms: float) -> Infeasible:
        nearest, nearest_ms = self.nearest()
        limits = "".join(f" and {OBJECTIVES[name].label} {limit:g}" for name, limit in self.models.limits.items())
        return Infeasible(
            f"no subnet of {self.space.name} was measured on {self.bench.target.name} within {budget_ms:g} ms "
            f"({GUARD:.0%} of which stay free){limits}",
            f"the nearest is {nearest_ms:.4g} ms ({nearest.key}); try --max-latency-ms {nearest_ms * 1.05:.3g}",
            {"limit": LATENCY, "value": nearest_ms, "subnet": nearest.key},
        )

    def nearest(self) -> tuple[SubnetConfig, float]:
        """The fastest subnet that meets the other limits, measured if a device is at hand, and its latency in ms.

        Raises:
            Infeasible: none of them meets the other limits.
        """
        self.bench.measure(self.models.fastest()[:FASTEST], "measuring the fastest")
        measured = zip(*self.bench.known(), strict=True)
        fitting = [(config, float(latency_ms)) for config, latency_ms in measured if self.models.meets_limits(config)]
        if not fitting:
            raise Infeasible("no subnet that was measured meets the limits", "allow more, or measure more: --samples")
        return min(fitting, key=lambda pair: pair[1])

    def along_front(self, front: Sequence[FrontPoint]) -> list[Pick]:
        """Measured picks spread over the predicted front, those that are not dominated, fastest first.

        Raises:
            Infeasible: nothing meets the limits, as predicted or as metered.
            PartialResult: none of them could be measured.
        """
        if not front:
            self.models.require_reachable()
            raise Infeasible("no subnet meets all limits together", "allow more of one of them")
        spread = np.linspace(0, len(front) - 1, min(self.settings.front_picks, len(front))).round().astype(int)
        configs = [SubnetConfig.parse(front[row].subnet) for row in spread]
        self._verify(configs, None)
        measured = [config for config in configs if self.bench.latency_ms(config) is not None]
        if not measured and not self.bench.can_measure:
            measured = self._front_of_known()
            self._verify(measured, None)
        if not measured:
            raise PartialResult("no subnet of the front could be measured", "see latency.jsonl in the tuning log")
        measured = [config for config in measured if self.models.meets_limits(config)]
        if not measured:
            raise Infeasible("no subnet of the front meets all limits as it was measured", "allow more of one of them")
        picks = [self.pick(config, None) for config in measured]
        scores = [
            [-self.top1(config), pick.verified_ms, *pick.objectives.values()]
            for config, pick in zip(measured, picks, strict=True)
        ]
        kept = np.flatnonzero(is_nondominated(np.asarray(scores, dtype=np.float64)))
        return sorted((picks[row] for row in kept), key=lambda pick: pick.verified_ms or 0.0)

    def _front_of_known(self) -> list[SubnetConfig]:
        """Measured subnets that none is predicted to beat in accuracy and speed together, spread over their front."""
        configs, latency_ms = self.bench.known()
        top1 = self.accuracy.predict(self.space.genomes(configs))
        allowed = np.asarray([self.models.meets_limits(config) for config in configs])
        front = np.flatnonzero(is_nondominated(np.stack([-top1, latency_ms], axis=1)) & allowed)
        ordered = front[np.argsort(latency_ms[front])]
        count = min(self.settings.front_picks, len(ordered))
        return [configs[row] for row in ordered[np.linspace(0, len(ordered) - 1, count).round().astype(int)]]
