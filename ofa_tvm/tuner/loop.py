"""The tuning loop: which kernel next, which candidates, and when it is enough.

Every kernel first gets a winner of another log or of a neighbour, and its best-ranked tile. After that
trials go where ``frequency in sampled subnets x latency x expected gain`` is largest; the expectation halves with
every batch that brought nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.console import Task, detail
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.device import Device
from ofa_tvm.tuner.drift import Drift
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult
from ofa_tvm.tuner.urgency import patience

FIRST_BATCH = 2


class CandidateSource(Protocol):
    """Candidates of one kernel, best first; told how they did."""

    def ask(self, count: int) -> list[Candidate]:
        """Up to ``count`` candidates not tried before; none left: empty."""
        ...

    def tell(self, results: list[TrialResult]) -> None:
        """Results of the candidates last asked for, in order."""
        ...


@dataclass(frozen=True)
class Budget:
    """When to stop: trials in this run, seconds, trials of one kernel over all runs (None: no limit)."""

    trials: int | None
    seconds: float | None
    trials_per_kernel: int


@dataclass(frozen=True)
class TuningSummary:
    """What a run did.

    Args:
        trials: candidates tried.
        failures: those of them that failed.
        kernels: kernels that had a trial.
        seconds: the run took.
        stopped_by: why it ended.
        slowest_reference: how much longer a reference kernel took at its slowest.
        failures_by_kind: failures by status.
    """

    trials: int
    failures: int
    kernels: int
    seconds: float
    stopped_by: str
    slowest_reference: float = 1.0
    failures_by_kind: Mapping[str, int] = field(default_factory=dict)


def kinds_text(failures: Mapping[str, int]) -> str:
    """Failures by kind, the most frequent first."""
    ordered = sorted(failures.items(), key=lambda kind: -kind[1])
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in ordered)


class Tuner:
    """Tunes kernels on a device and commits every batch to a log.

    Args:
        kernels: the kernels by key.
        frequencies: how often a subnet calls each.
        log: held exclusively by the caller.
        device: runs trials.
        source: makes a kernel's candidate source.
        batch: trials committed together; an interrupted batch is committed as far as it came.
        first_batch: trials of a kernel before all others have had theirs (another log's winner, and a guess).
    """

    def __init__(
        self,
        kernels: Mapping[str, KernelSpec],
        frequencies: Mapping[str, float],
        log: TuningLog,
        device: Device,
        source: Callable[[KernelSpec], CandidateSource],
        batch: int,
        first_batch: int = FIRST_BATCH,
    ) -> None:
        self._kernels, self._frequencies = kernels, frequencies
        self._log, self._device, self._make_source = log, device, source
        self._batch, self._first_batch = batch, first_batch
        self._sources: dict[str, CandidateSource] = {}
        self._exhausted: set[str] = set()
        self._drift = Drift()

    def order(self, trials_per_kernel: int) -> Iterator[str]:
        """Kernels in the order in which they deserve a batch: untried ones first, then by expected gain."""
        untried = [key for key in self._kernels if not self._trials(key)]
        untried.sort(key=lambda key: -self._frequencies[key] * self._kernels[key].flops)
        yield from untried
        while True:
            gains = {key: self._gain(key, trials_per_kernel) for key in self._kernels}
            best = max(gains, key=lambda key: gains[key])
            if gains[best] <= 0:
                return
            yield best

    def _trials(self, key: str) -> int:
        """Trials of a kernel in all runs."""
        state = self._log.kernels.get(key)
        return 0 if state is None else state.trials

    def _gain(self, key: str, trials_per_kernel: int) -> float:
        state = self._log.kernels.get(key)
        if state is None or key in self._exhausted or state.trials >= trials_per_kernel:
            return 0.0
        return self._frequencies[key] * (state.best_ms or 1.0) * patience(state, self._batch)

    def run(self, budget: Budget) -> TuningSummary:
        """Tune until a budget is used up or nothing promises a gain."""
        start = time.monotonic()
        done, failures = 0, Counter[str]()
        stopped_by = "nothing left that promises a gain"
        touched = set()
        planned = sum(max(0, budget.trials_per_kernel - self._trials(key)) for key in self._kernels)
        total = planned if budget.trials is None else min(planned, budget.trials)
        with Task("tuning", total, seconds=budget.seconds) as task:
            for key in self.order(budget.trials_per_kernel):
                if budget.trials is not None and done >= budget.trials:
                    stopped_by = "trial budget"
                    break
                if budget.seconds is not None and time.monotonic() - start >= budget.seconds:
                    stopped_by = "time budget"
                    break
                batch = self._batch if self._trials(key) else self._first_batch
                left = min(batch, budget.trials_per_kernel - self._trials(key))
                results = self._try(key, left if budget.trials is None else min(left, budget.trials - done))
                if not results:
                    self._exhausted.add(key)
                    continue
                touched.add(key)
                references_ms = [result.reference_ms for result in results if result.reference_ms is not None]
                if references_ms:
                    self._drift.watch(median(references_ms))
                done += len(results)
                failures.update(result.status for result in results if result.status != "ok")
                for result in results:
                    if result.status != "ok":
                        detail(f"{key}: {result.status}: {result.error}")
                task.advance(len(results), self._standing(key, failures, budget.trials_per_kernel))
        seconds = time.monotonic() - start
        worst = self._drift.worst
        return TuningSummary(done, failures.total(), len(touched), seconds, stopped_by, worst, dict(failures))

    def _standing(self, key: str, failures: Mapping[str, int], trials_per_kernel: int) -> str:
        """The best so far, failures by kind, what may still gain, and the kernel just tried."""
        states = self._log.kernels
        best_ms = {name: states[name].best_ms for name in self._kernels if name in states}
        times = {name: self._frequencies[name] * best for name, best in best_ms.items() if best is not None}
        is_whole = len(times) == len(self._kernels)  # a sum of some would tell nothing
        parts = [f"{sum(times.values()):.3f} ms a subnet" if is_whole else f"{len(times)}/{len(self._kernels)} tuned"]
        if failures:
            parts.append(kinds_text(failures))
        if times:
            still = sum(times[name] for name in times if self._gain(name, trials_per_kernel) > 0)
            parts.append(f"more trials may shorten {still / sum(times.values()):.0%} of the tuned time")
        best = best_ms[key]
        return "; ".join([*parts, f"{key} {'failed' if best is None else f'{best * 1e3:.1f} us'}"])

    def _try(self, key: str, count: int) -> list[TrialResult]:
        spec = self._kernels[key]
        if key not in self._sources:
            self._sources[key] = self._make_source(spec)
        source = self._sources[key]
        candidates = source.ask(count)
        state = self._log.kernels.get(key)
        results: list[TrialResult] = []
        try:
            for result in self._device.trials(spec, candidates, state.best_ms if state else None):
                results.append(result)
        finally:
            if results:  # what was measured before an interrupt or a lost device counts too
                self._log.commit(key, list(zip(candidates, results, strict=False)))
        if results:
            source.tell(results)
        return results
