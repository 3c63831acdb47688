"""Tune the kernels of a space for a target."""

from __future__ import annotations

from collections.abc import Sequence

from ofa_tvm.api.arguments import AtLeastOne, Count, Positive, checked
from ofa_tvm.measurement import tuning_session
from ofa_tvm.measurement.tuning_session import TuningReport
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.tuner.loop import Budget
from ofa_tvm.tuner.tuned_space import Target


@checked
def tune(
    space: SearchSpace,
    target: Target,
    *,
    minutes: Positive | None = None,
    trials: Count | None = None,
    trials_per_kernel: AtLeastOne | None = None,
    resolutions: Sequence[int] | None = None,
    samples: Count = 0,
    seed: Count = 0,
) -> TuningReport:
    """Tune, or resume; without a budget, until nothing promises a gain.

    Args:
        space: whose kernels are tuned.
        target: that they are tuned for.
        minutes: the most minutes to spend.
        trials: the most trials.
        trials_per_kernel: the most trials of one kernel over all runs; None for the target's.
        resolutions: whose kernels are tuned; None for all.
        samples: random subnets to measure afterwards, from which the latency model is learned.
        seed: of the samples.

    Raises:
        PartialResult: no trial succeeded.
        DeviceUnreachable: the device cannot be used.
    """
    seconds = None if minutes is None else minutes * 60
    budget = Budget(trials, seconds, trials_per_kernel or target.spec.tuning.trials_per_kernel)
    sizes = None if resolutions is None else tuple(resolutions)
    return tuning_session.tune(target.tuned(space), budget, resolutions=sizes, samples=samples, seed=seed)
