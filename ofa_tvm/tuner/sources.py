"""Where a kernel's candidates come from, in this order: winners of other logs, default, templates, evolution."""

from __future__ import annotations

from typing import Any

from ofa_tvm.compiler.cpu_features import cpu_features
from ofa_tvm.compiler.tvm_import import Target
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.evolution import Evolution, PooledCostModel
from ofa_tvm.tuner.log import TrialResult
from ofa_tvm.tuner.templates import template_candidates


class Sources:
    """Makes the candidate sources of one tuning run.

    Args:
        target: TVM's target attributes.
        donors: winning schedules of other logs, by kernel.
        tried: digests of candidates in the ledger; they are never proposed again.
        batch: candidates of one evolutionary round.
        seed: of evolution.
        evolution: propose evolved schedules when templates are used up.
        templates: propose templates.
    """

    def __init__(
        self,
        target: dict[str, Any],
        donors: dict[str, list[dict[str, Any]]],
        tried: set[str],
        batch: int,
        seed: int = 0,
        evolution: bool = True,
        templates: bool = True,
    ) -> None:
        self.target = Target(target)
        self.features = cpu_features(self.target)
        self.donors, self.tried, self.batch, self.seed = donors, tried, batch, seed
        self.evolution, self.templates = evolution, templates
        self.cost_model = PooledCostModel()

    def __call__(self, spec: KernelSpec) -> KernelCandidates:
        """The source of one kernel."""
        return KernelCandidates(spec, self)


class KernelCandidates:
    """Candidates of one kernel."""

    def __init__(self, spec: KernelSpec, sources: Sources) -> None:
        self._spec, self._sources = spec, sources
        key = spec.key
        known = [Candidate(key, "donor", schedule) for schedule in sources.donors.get(key, [])]
        known.append(Candidate(key, "default", {}))
        if sources.templates:
            known += [
                Candidate(key, "template", {"template": name, "parameters": parameters})
                for name, parameters in template_candidates(spec, sources.features)
            ]
        first: dict[str, Candidate] = {}
        for candidate in known:
            first.setdefault(candidate.digest, candidate)
        self._known = [candidate for digest, candidate in first.items() if digest not in sources.tried]
        self._evolution: Evolution | None = None
        self._asked: list[Candidate] = []
        self._evolved: list[Candidate] = []

    def ask(self, count: int) -> list[Candidate]:
        """Up to ``count`` candidates that the ledger does not know."""
        self._evolved = []
        self._asked, self._known = self._known[:count], self._known[count:]
        if not self._asked and self._sources.evolution:
            self._asked = self._evolve(count)
        return self._asked

    def _evolve(self, count: int) -> list[Candidate]:
        sources = self._sources
        if self._evolution is None:
            self._evolution = Evolution(self._spec, sources.target, sources.batch, sources.cost_model, sources.seed)
        self._evolved = self._evolution.ask()
        fresh = {c.digest: c for c in self._evolved if c.digest not in sources.tried}
        return list(fresh.values())[:count]

    def tell(self, results: list[TrialResult]) -> None:
        """Pass times to the evolution that proposed the candidates."""
        if self._evolution is None or not self._evolved:
            return
        by_digest = dict(zip((candidate.digest for candidate in self._asked), results, strict=True))
        times: list[list[float] | None] = []
        for candidate in self._evolved:
            result = by_digest.get(candidate.digest)
            is_valid = result is not None and result.status == "ok"
            times.append([ms / 1e3 for ms in result.times_ms] if result is not None and is_valid else None)
        self._evolution.tell(times)
