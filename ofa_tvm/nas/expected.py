"""What a search would do and cost, from what its log knows; nothing is measured, evaluated or loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ofa_tvm.measurement.known_latencies import KnownLatencies
from ofa_tvm.measurement.latency_bench import ANCHORS, CONFIRMING, MIN_MEASURED, too_few_elsewhere
from ofa_tvm.nas.budget_search import FASTEST
from ofa_tvm.nas.opened_accuracy import Evaluation, missing_accuracies
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost, estimated
from ofa_tvm.tuner.tuned_space import TunedSpace

BUILD_S = 1.5
"""To build a subnet and start its process."""
MACS_PER_S = 2e10
"""Of an evaluation on one core."""
RECALIBRATING, HELD_OUT_IMAGES, TEST_IMAGES = 2000, 5000, 10_000
"""Images that recalibrate batch norm at most, and of CIFAR-10: of an evaluation, and of a pick's test."""
SAMPLED = 200
"""Random subnets whose mean work counts."""


@dataclass(frozen=True)
class ExpectedSearch:
    """What a search on one target would do at most.

    Args:
        target: its name.
        dtype: its precision.
        tuned_kernels: kernels of the space that are tuned.
        kernels: all of them.
        known: subnets whose latency the log has.
        measurements: subnets to measure.
        finalists: subnets to evaluate on held-out images because they are measured.
        picks: subnets to test.
        measuring_s: seconds of all measurements.
        macs: of a mean subnet.
        learnt: subnets to evaluate before, from which the accuracy predictor learns.
        images: held-out images.
    """

    target: str
    dtype: DType
    tuned_kernels: int
    kernels: int
    known: int
    measurements: int
    finalists: int
    picks: int
    measuring_s: float
    macs: float
    learnt: int = 0
    images: int = HELD_OUT_IMAGES

    @property
    def evaluations(self) -> int:
        """Subnets to evaluate on held-out images."""
        return self.learnt + self.finalists

    @property
    def cost(self) -> Cost:
        """Of all that; estimated."""
        counted = self.evaluations * (self.images + RECALIBRATING) + self.picks * (TEST_IMAGES + RECALIBRATING)
        seconds = self.measuring_s + self.macs * counted / MACS_PER_S
        return estimated(f"search on {self.target}", seconds, seconds)

    def record(self) -> Record:
        """As a JSON object."""
        return {**asdict(self), "evaluations": self.evaluations, "cost": self.cost.record()}


def expected_search(
    tuned: TunedSpace, settings: SearchSettings, budgets: Sequence[float], samples: int
) -> ExpectedSearch:
    """What a search on a target would do.

    Args:
        tuned: the space on the target.
        settings: of the search.
        budgets: of latency; empty for the front.
        samples: measured subnets that the latency model starts from.

    Raises:
        NotTuned: too few subnets were measured elsewhere.
    """
    known = len(KnownLatencies(tuned, settings.percentile, settings.busy_cores, is_live=False).known()[0])
    if tuned.target.device == "pack" and known < MIN_MEASURED:
        raise too_few_elsewhere(tuned, known)
    rounds = settings.rounds * settings.finalists + 1 + FASTEST
    finalists = rounds * len(budgets) if budgets else settings.front_picks
    picks = len(budgets) or settings.front_picks
    measurements = max(0, samples - known) + ANCHORS + finalists
    plan = tuned.target.measure
    measuring_s = measurements * (BUILD_S + plan.windows * plan.window_ms / 1e3)
    measuring_s += len(budgets) * (BUILD_S + CONFIRMING.windows * CONFIRMING.gap_s)
    macs = float(np.mean([tuned.space.network(config).macs for config in _some(tuned, settings)]))
    return ExpectedSearch(
        target=tuned.target.name,
        dtype=tuned.target.dtype,
        tuned_kernels=tuned.tuned_kernels,
        kernels=len(tuned.kernels()),
        known=known,
        measurements=measurements,
        finalists=finalists,
        picks=picks,
        measuring_s=measuring_s,
        macs=macs,
    )


def with_accuracies(plans: Sequence[ExpectedSearch], supernet: Path, how: Evaluation) -> list[ExpectedSearch]:
    """Plans of one search with the evaluations that its accuracy predictors learn from; all targets share those.

    Args:
        plans: of its targets or precisions.
        supernet: see ``missing_accuracies``.
        how: likewise.

    Raises:
        UserError: a file cannot be read.
    """
    complete: list[ExpectedSearch] = []
    for plan in plans:
        subnets, images = missing_accuracies(supernet, how, plan.dtype)
        # int8 learns from float32's, too; the other precisions' accuracies are float32's.
        is_shared = any(plan.dtype == "int8" or earlier.dtype != "int8" for earlier in complete)
        learnt = 0 if is_shared else subnets
        complete.append(replace(plan, learnt=learnt, images=HELD_OUT_IMAGES if images is None else images))
    return complete


def _some(tuned: TunedSpace, settings: SearchSettings) -> list[SubnetConfig]:
    space = tuned.space.with_resolutions(settings.resolutions)
    return space.sample_configs(np.random.default_rng(settings.seed), SAMPLED)
