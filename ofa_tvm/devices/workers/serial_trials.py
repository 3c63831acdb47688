"""For devices that run one trial at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.trial import TrialResult


class OneByOne(ABC):
    """Makes ``trials`` of ``trial``."""

    @abstractmethod
    def trial(self, spec: KernelSpec, candidate: Candidate, best_ms: float | None) -> TrialResult:
        """Build, time and, if it beats ``best_ms``, check a candidate."""

    def trials(self, spec: KernelSpec, candidates: Sequence[Candidate], best_ms: float | None) -> Iterator[TrialResult]:
        """Results of candidates in their order, as they come; each has to beat those before."""
        for candidate in candidates:
            result = self.trial(spec, candidate, best_ms)
            yield result
            if result.best_ms is not None and result.is_checked:
                best_ms = result.best_ms if best_ms is None else min(best_ms, result.best_ms)
