"""What a search would do and cost, from what its log knows; nothing is measured, evaluated or loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ofa_tvm.measurement.known_latencies import KnownLatencies
from ofa_tvm.measurement.latency_bench import ANCHORS, CONFIRMING, MIN_MEASURED, too_few_elsewhere
from ofa_tvm.nas.budget_search import FASTEST
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
HELD_OUT_IMAGES, TEST_IMAGES = 7000, 12_000
"""Images of an evaluation, and of a pick's test, those that recalibrate batch norm included."""
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
        evaluations: subnets to evaluate on held-out images.
        picks: subnets to test.
        cost: of all that; estimated.
    """

    target: str
    dtype: DType
    tuned_kernels: int
    kernels: int
    known: int
    measurements: int
    evaluations: int
    picks: int
    cost: Cost

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


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
    evaluating_s = macs * (finalists * HELD_OUT_IMAGES + picks * TEST_IMAGES) / MACS_PER_S
    seconds = measuring_s + evaluating_s
    cost = estimated(f"search on {tuned.target.name}", seconds, seconds)
    total = len(tuned.kernels())
    return ExpectedSearch(
        tuned.target.name,
        tuned.target.dtype,
        tuned.tuned_kernels,
        total,
        known,
        measurements,
        finalists,
        picks,
        cost,
    )


def _some(tuned: TunedSpace, settings: SearchSettings) -> list[SubnetConfig]:
    space = tuned.space.with_resolutions(settings.resolutions)
    return space.sample_configs(np.random.default_rng(settings.seed), SAMPLED)
