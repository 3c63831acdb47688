"""Where a kernel's candidates come from: ranked tiles, winners of other logs and of neighbouring kernels.

First the ranking's best guess, then the nearest CPU's winner: on a CPU that was never tuned, these two trials bring
`mbv3` within a few percent of its final latency; that winner alone is far from it (``benchmarks/README.md``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import astuple

from ofa_tvm.compiler.cpu.emit import EmittedKernel, candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.hardware.target import TargetAttributes
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.trial import KernelState, TrialResult

DONORS = 2
NEIGHBOURS = 2


def dissimilarity(target: TargetAttributes) -> Callable[[Record], list[bool]]:
    """How a target differs from that of another log's conditions: in vector lanes, then registers, then cores.

    Args:
        target: TVM's attributes of the target that is tuned.
    """
    features = astuple(cpu_features(Target(target)))

    def differences(conditions: Record) -> list[bool]:
        other = conditions.get("target", {})
        if other.get("kind") != "llvm":
            return [True] * len(features)
        return [theirs != mine for theirs, mine in zip(astuple(cpu_features(Target(other))), features, strict=True)]

    return differences


class Sources:
    """Makes the candidate sources of one tuning run.

    Args:
        target: TVM's target attributes.
        kernels: all kernels of the run, by key: where neighbours are looked for.
        known: what is known of each; it grows while the run goes on.
        donors: winning schedules of other logs, by kernel, the nearest target's first.
        tried: digests of candidates in the ledger; they are never proposed again.
        transfer: use donors and neighbours.
    """

    def __init__(
        self,
        target: TargetAttributes,
        kernels: Mapping[str, KernelSpec],
        known: Mapping[str, KernelState],
        donors: Mapping[str, list[KernelSchedule]],
        tried: set[str],
        transfer: bool = True,
    ) -> None:
        self.features = cpu_features(Target(target))
        self.kernels, self.known, self.tried = kernels, known, tried
        self.donors, self.transfer = donors, transfer

    def __call__(self, spec: KernelSpec) -> KernelCandidates:
        """The source of one kernel."""
        return KernelCandidates(spec, self)

    def neighbours(self, spec: KernelSpec) -> list[KernelSchedule]:
        """Winners of the most similar kernels of the run."""
        near = [
            (distance, key)
            for key, other in self.kernels.items()
            if key != spec.key and (distance := _distance(spec, other)) is not None
        ]
        schedules: list[KernelSchedule] = []
        for _, key in sorted(near):
            state = self.known.get(key)
            if state is not None and state.schedule is not None and state.schedule not in schedules:
                schedules.append(state.schedule)
            if len(schedules) == NEIGHBOURS:
                break
        return schedules


def _distance(one: KernelSpec, other: KernelSpec) -> float | None:
    """How unlike two kernels are; None where a schedule of one means nothing to the other."""
    if (one.kind, one.scaled, one.pooled) != (other.kind, other.scaled, other.pooled):
        return None
    pairs = [
        (one.in_size, other.in_size),
        (one.in_channels, other.in_channels),
        (one.out_channels, other.out_channels),
    ]
    unlike = sum(abs(math.log2(a / b)) for a, b in pairs)
    return unlike + abs(one.kernel_size - other.kernel_size) / 2 + 2 * abs(one.stride - other.stride)


class KernelCandidates:
    """Candidates of one kernel."""

    def __init__(self, spec: KernelSpec, sources: Sources) -> None:
        self._spec, self._sources = spec, sources
        self._ranked = candidates(spec, sources.features)

    def ask(self, count: int) -> list[Candidate]:
        """Up to ``count`` candidates that the ledger does not know."""
        key, sources = self._spec.key, self._sources
        default, *others = self._ranked
        donors = sources.donors.get(key, []) if sources.transfer else []
        nearest = [schedule for schedule in donors if self._is_known(schedule)][:DONORS]
        neighbours = sources.neighbours(self._spec) if sources.transfer else []
        proposed = [
            Candidate(key, "default", default),
            *(Candidate(key, "donor", schedule) for schedule in nearest[:1]),
            *(Candidate(key, "neighbour", schedule) for schedule in neighbours),
            *(Candidate(key, "donor", schedule) for schedule in nearest[1:]),
            *(Candidate(key, "template", schedule) for schedule in others),
        ]
        fresh: dict[str, Candidate] = {}
        for candidate in proposed:
            if candidate.digest not in sources.tried and self._is_known(candidate.schedule):
                fresh.setdefault(candidate.digest, candidate)
        return list(fresh.values())[:count]

    def _is_known(self, schedule: KernelSchedule) -> bool:
        """Whether this version computes the kernel on this CPU by another log's schedule, or by a neighbour's."""
        try:
            EmittedKernel(self._spec, schedule, self._sources.features)
        except ValueError:
            return False
        return True

    def tell(self, results: list[TrialResult]) -> None:
        """Nothing to learn: the log knows the winner."""
