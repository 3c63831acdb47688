"""How good the searchers are: ``python benchmarks/searchers.py [pymoo] [exhaustive] [speed]``.

``pymoo`` compares the hypervolume of our NSGA-II with that of pymoo's at equal evaluations, ``exhaustive`` compares it
with the whole front of spaces that can be enumerated, ``speed`` takes the CPU time of searchers and tables alone.
Everything is predicted: nothing is built or measured on a device. Results are kept as JSON under
``benchmarks/results/``.

Hypervolumes are of both objectives scaled so that the best front known spans 0 to 1, up to the point (1.1, 1.1).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from moocore import hypervolume
from store import keep

from ofa_tvm.accuracy.predictor import AccuracyPredictor
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.measurement.kernel_times import kernel_keys
from ofa_tvm.nas.searchers import SEARCHERS, relative_excess
from ofa_tvm.nas.searchers.archive import feasible_front
from ofa_tvm.nas.searchers.optimise import optimise
from ofa_tvm.spaces import Genomes, SearchSpace, get_space
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.shipped import shipped_supernet

EVALUATIONS, POPULATION, SEEDS = 10_000, 200, 5
BUDGET_QUANTILE = 0.3
FLOPS_PER_MS, BYTES_PER_MS, CALL_MS = 4e7, 1e7, 1e-3
SMALL: dict[str, dict[str, Any]] = {
    "cifar, kernels": {"expand_choices": (4,)},
    "cifar, expands": {"kernel_choices": (3, 7), "expand_choices": (2, 4), "resolutions": (28,)},
}
"""Parts of mbv3-cifar with 140 and 512 thousand subnets."""

Score = Callable[[Genomes], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A search: minus the top-1 fraction and the latency in ms of subnets, shape (n, 2), and a latency budget in ms."""

    name: str
    space: SearchSpace
    objectives: Score
    budget_ms: float = np.inf

    def score(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        """What searchers are told."""
        objectives = self.objectives(genomes)
        return objectives, relative_excess(objectives[:, 1], self.budget_ms)


def latency_table(space: SearchSpace) -> SubnetTable:
    """Made-up times: each kernel is called, calculates and moves memory at fixed rates."""
    costs = {
        key: CALL_MS + kernel.flops / FLOPS_PER_MS + (kernel.weight_bytes + kernel.activation_bytes) / BYTES_PER_MS
        for key, kernel in fused_kernels(space).items()
    }
    return SubnetTable(space, costs, kernel_keys)


def saturating_top1(space: SearchSpace) -> Score:
    """A made-up accuracy: every block and pixel helps, the later in a stage and the more there is the less."""
    rng = np.random.default_rng(7)
    decay = 0.75 ** np.tile(np.arange(space.max_depth), space.stages)
    gain = rng.uniform(0.5, 1.5, space.blocks) * decay
    kernel_gain = 1 + rng.uniform(0.02, 0.2, (space.blocks, 1)) * np.sqrt(np.arange(len(space.kernel_choices)))
    expand_gain = np.sqrt(np.asarray(space.expand_choices) / space.expand_choices[-1])
    blocks = np.arange(space.blocks)

    def top1(genomes: Genomes) -> np.ndarray:
        resolution, _, kernel, expand = space.split_genes(genomes)
        quality = space.active_blocks(genomes) * gain * kernel_gain[blocks, kernel] * expand_gain[expand]
        area = np.asarray(space.resolutions)[resolution] / space.resolutions[-1]
        found: np.ndarray = 0.8 - 0.35 * np.exp(-1.5 * area) - 0.3 * np.exp(-quality.sum(axis=1) / gain.sum() * 2)
        return found

    return top1


def predicted_top1(space: SearchSpace) -> Score:
    """What ships for mbv3-cifar, also for a part of that space."""
    whole = get_space("mbv3-cifar")
    predictor = AccuracyPredictor.load(shipped_supernet(), SubnetTable(whole))
    pairs = [(space.resolutions, whole.resolutions), *[(space.depth_choices, whole.depth_choices)] * space.stages]
    pairs += [(space.kernel_choices, whole.kernel_choices)] * space.blocks
    pairs += [(space.expand_choices, whole.expand_choices)] * space.blocks
    numbers = [np.asarray([every.index(value) for value in some], dtype=np.int8) for some, every in pairs]

    def top1(genomes: Genomes) -> np.ndarray:
        columns = [number[genes] for number, genes in zip(numbers, genomes.T, strict=True)]
        return predictor.predict(whole.canonical(np.stack(columns, axis=1)))[0]

    return top1


def with_budget(name: str, space: SearchSpace, top1: Score) -> list[Case]:
    """A search of the whole front, and one under a budget that ``BUDGET_QUANTILE`` of random subnets meet."""
    table = latency_table(space)

    def objectives(genomes: Genomes) -> np.ndarray:
        return np.stack([-top1(genomes), table.kernel_ms(genomes)], axis=1)

    some = table.kernel_ms(space.sample(np.random.default_rng(0), 10_000))
    budget_ms = float(np.quantile(some, BUDGET_QUANTILE))
    return [Case(name, space, objectives), Case(f"{name}, budget", space, objectives, budget_ms)]


def ours(case: Case, searcher: str, seed: int, evaluations: int = EVALUATIONS, batch: int = POPULATION) -> np.ndarray:
    """Front of one of our searchers."""
    search = SEARCHERS[searcher](case.space, np.random.default_rng(seed))
    optimise(search, case.score, evaluations, batch)
    return search.front()[1]


def pymoo_nsga2(case: Case, seed: int, evaluations: int = EVALUATIONS, population: int = POPULATION) -> np.ndarray:
    """Front of everything that pymoo's NSGA-II evaluates: as generous to it as our archive is to ours."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Search(Problem):  # type: ignore[misc]  # pymoo has no types
        def __init__(self) -> None:
            sizes = case.space.gene_sizes
            super().__init__(n_var=len(sizes), n_obj=2, n_ieq_constr=1, xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
            seen.append(case.score(case.space.canonical(x.astype(np.int8))))
            out["F"], out["G"] = seen[-1][0], seen[-1][1][:, None]

    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=UX(prob=0.9),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(Search(), algorithm, ("n_eval", evaluations), seed=seed)
    objectives, violations = map(np.concatenate, zip(*seen, strict=True))
    return objectives[feasible_front(objectives, violations)]


def volumes(groups: dict[str, list[np.ndarray]]) -> dict[str, list[float]]:
    """Hypervolume of each front, objectives scaled to the best front of all of them."""
    every = np.concatenate([front for group in groups.values() for front in group])
    best = every[feasible_front(every, np.zeros(len(every)))]
    low, high = best.min(axis=0), best.max(axis=0)
    return {
        name: [float(hypervolume((front - low) / (high - low), ref=[1.1, 1.1])) for front in group]
        for name, group in groups.items()
    }


def ratios(case: Case, groups: dict[str, list[np.ndarray]], against: str) -> dict[str, Any]:
    """Hypervolumes of a case divided by the mean of ``against``."""
    found = volumes(groups)
    reference = statistics.fmean(found[against])
    row: dict[str, Any] = {"case": case.name, "budget_ms": case.budget_ms if np.isfinite(case.budget_ms) else None}
    for name, values in found.items():
        row[name] = {"ratio": statistics.fmean(values) / reference, "each": [value / reference for value in values]}
        cells = f"{row[name]['ratio']:.4f} | {min(row[name]['each']):.4f} | {max(row[name]['each']):.4f}"
        print(f"| {case.name} | {name} | {cells} |", flush=True)
    return row


def against_pymoo() -> list[dict[str, Any]]:
    """NSGA-II and random search against pymoo's NSGA-II at equal evaluations."""
    mbv3, cifar = get_space("mbv3"), get_space("mbv3-cifar")
    cases = with_budget("mbv3", mbv3, saturating_top1(mbv3)) + with_budget("mbv3-cifar", cifar, predicted_top1(cifar))
    rows = []
    print("| search | searcher | hypervolume against pymoo | lowest | highest |\n| --- | --- | --- | --- | --- |")
    for case in cases:
        groups = {name: [ours(case, name, seed) for seed in range(SEEDS)] for name in ("nsga2", "random")}
        groups["pymoo"] = [pymoo_nsga2(case, seed) for seed in range(SEEDS)]
        rows.append(ratios(case, groups, "pymoo"))
    return rows


def against_exhaustive() -> list[dict[str, Any]]:
    """NSGA-II and random search against the front of every subnet."""
    rows = []
    print("| search | searcher | hypervolume against all | lowest | highest |\n| --- | --- | --- | --- | --- |")
    for name, choices in SMALL.items():
        space = replace(get_space("mbv3-cifar"), **choices)
        for case in with_budget(name, space, predicted_top1(space)):
            groups = {"exhaustive": [ours(case, "exhaustive", 0, space.cardinality, batch=50_000)]}
            groups |= {name: [ours(case, name, seed) for seed in range(SEEDS)] for name in ("nsga2", "random")}
            rows.append({"subnets": space.cardinality, **ratios(case, groups, "exhaustive")})
    return rows


def speed() -> list[dict[str, Any]]:
    """Time of the searcher alone for each candidate, and what a table of mbv3 and mbv3-cifar answers in a second."""
    rows = []
    print("| what | median |\n| --- | --- |")
    for name in ("mbv3", "mbv3-cifar"):
        space = get_space(name)
        for population in (200, 1000):
            seconds = statistics.median(_searcher_seconds(space, population) for _ in range(SEEDS))
            rows.append({"space": name, "population": population, "microseconds_per_candidate": 1e6 * seconds})
            print(f"| {name}, nsga2, {population} at once | {1e6 * seconds:.1f} us a candidate |", flush=True)
        table, genomes = latency_table(space), space.sample(np.random.default_rng(0), 100_000)
        for method in (table.quantities, table.kernel_ms, table.peak_activation_bytes):
            rate = len(genomes) / statistics.median(_seconds(partial(method, genomes)) for _ in range(9))
            rows.append({"space": name, "table": method.__name__, "subnets_per_second": rate})
            print(f"| {name}, {method.__name__} | {rate:,.0f} subnets/s |", flush=True)
    return rows


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _searcher_seconds(space: SearchSpace, population: int) -> float:
    """CPU seconds a candidate of ask, tell and front, without what is told."""
    case = with_budget(space.name, space, saturating_top1(space))[0]
    search = SEARCHERS["nsga2"](space, np.random.default_rng(0))
    scoring = 0.0

    def score(genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        nonlocal scoring
        start = time.process_time()
        scores = case.score(genomes)
        scoring += time.process_time() - start
        return scores

    def whole() -> None:
        optimise(search, score, 4 * EVALUATIONS, population)
        search.front()

    return (_seconds(whole) - scoring) / (4 * EVALUATIONS)


PARTS = {"pymoo": against_pymoo, "exhaustive": against_exhaustive, "speed": speed}


def main() -> None:
    """Run the parts that were asked for, or all."""
    parts = sys.argv[1:] or list(PARTS)
    result = {
        "evaluations": EVALUATIONS,
        "population": POPULATION,
        "seeds": SEEDS,
        **{part: PARTS[part]() for part in parts},
    }
    keep("-".join(["searchers", *sys.argv[1:]]), result)


if __name__ == "__main__":
    main()
