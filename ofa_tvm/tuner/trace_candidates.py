"""Candidates where TVM schedules: the default, then our own designs, or MetaSchedule's space, searched by evolution.

What was measured is kept, see ``measured_traces``, so that a later run continues the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ofa_tvm.compiler.cuda.squeeze_excite import squeeze_excite_traces
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.hardware.target import TargetAttributes
from ofa_tvm.support.console import log
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.evolution import Evolution, PooledCostModel
from ofa_tvm.tuner.measured_traces import FILE_NAME, keep_traces, kept_traces
from ofa_tvm.tuner.trial import TrialResult

MAX_ROUNDS = 4
"""Times that evolution is asked again when all that it proposes was tried."""


class TraceSources:
    """Makes the candidate sources of one run.

    Args:
        target: TVM's target attributes.
        folder: the log's folder.
        donors: winning schedules of other logs, by kernel.
        tried: digests of candidates in the ledger; they are never proposed again.
        seed: of the search.
    """

    def __init__(
        self,
        target: TargetAttributes,
        folder: Path,
        donors: Mapping[str, list[KernelSchedule]],
        tried: set[str],
        seed: int = 0,
    ) -> None:
        self.target, self.folder, self.donors = Target(target), folder, donors
        self.tried, self.seed, self.cost_model = tried, seed, PooledCostModel()
        self.measured = kept_traces(folder)

    def __call__(self, spec: KernelSpec) -> TraceCandidates:
        """The source of one kernel."""
        return TraceCandidates(spec, self)


class TraceCandidates:
    """Candidates of one kernel."""

    def __init__(self, spec: KernelSpec, sources: TraceSources) -> None:
        self._spec, self._sources = spec, sources
        self._evolution: Evolution | None = None
        is_ours = spec.kind == "squeeze_excite"
        self._designs = list(squeeze_excite_traces(spec, sources.target)) if is_ours else []
        self._has_no_space = is_ours  # MetaSchedule's rules raise IndexError for it
        self._asked: list[Candidate] = []
        self._proposed: list[Candidate] = []

    def ask(self, count: int) -> list[Candidate]:
        """Up to ``count`` candidates that the ledger does not know."""
        key = self._spec.key
        first = [Candidate(key, "default", {})]
        first += [
            Candidate(key, "donor", candidate)
            for candidate in self._sources.donors.get(key, [])
            if "trace" in candidate
        ]
        first += [Candidate(key, "template", candidate) for candidate in self._designs]
        fresh = {candidate.digest: candidate for candidate in first if candidate.digest not in self._sources.tried}
        self._proposed = []
        if len(fresh) < count:
            for candidate in self._evolved(count - len(fresh)):
                fresh.setdefault(candidate.digest, candidate)
        self._asked = list(fresh.values())[:count]
        return self._asked

    def _evolved(self, count: int) -> list[Candidate]:
        if self._evolution is None and not self._has_no_space:
            sources = self._sources
            try:
                self._evolution = Evolution(self._spec, sources.target, count, sources.cost_model, sources.seed)
            except Exception as error:  # TVM's rules fail for some kernels, in several ways
                log(f"{self._spec.key}: MetaSchedule has no space for it ({type(error).__name__}); the default stays")
                self._has_no_space = True
            else:
                self._learn(self._evolution)
        if self._evolution is None:
            return []
        for _ in range(MAX_ROUNDS):
            self._proposed = self._evolution.ask()
            if not self._proposed:
                return []
            if fresh := [candidate for candidate in self._proposed if candidate.digest not in self._sources.tried]:
                return fresh
            self._evolution.tell([None] * len(self._proposed))
        return []

    def _learn(self, evolution: Evolution) -> None:
        key, sources = self._spec.key, self._sources
        try:
            evolution.learn(sources.measured.get(key, []))
        except Exception as error:  # TVM reads a trace that was edited until it fails, in several ways
            log(
                f"{sources.folder / FILE_NAME}: traces of {key} are left out, as one is damaged: {type(error).__name__}"
            )

    def tell(self, results: list[TrialResult]) -> None:
        """Results of the candidates last asked for, in order; they are kept for later runs."""
        pairs = list(zip(self._asked, results, strict=False))
        keep_traces(self._sources.folder, pairs)
        if self._evolution is not None and self._proposed:
            times = {candidate.digest: result.times_ms for candidate, result in pairs if result.status == "ok"}
            times_ms = [times.get(candidate.digest) for candidate in self._proposed]
            self._evolution.tell(
                [None if candidate is None else [ms / 1e3 for ms in candidate] for candidate in times_ms]
            )
