"""Where a measured subnet's time goes, call by call, with the work that each call does."""

from __future__ import annotations

from ofa_tvm.cost_model.breakdown import breakdown
from ofa_tvm.cost_model.layer_time import LayerTime
from ofa_tvm.measurement.kernel_times import call_costs
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.support.errors import NotTuned
from ofa_tvm.tuner.tuned_space import TunedSpace


def layer_times(tuned: TunedSpace, config: SubnetConfig, whole_ms: float) -> tuple[LayerTime, ...]:
    """The calls of a subnet in order, see ``breakdown``.

    Args:
        tuned: the space on its target.
        config: the subnet.
        whole_ms: its latency in ms, measured or predicted.

    Returns:
        Nothing where no kernel of the space is tuned.
    """
    try:
        costs, _ = call_costs(tuned)
    except NotTuned:
        return ()
    steps = tuned.steps(tuned.space.network(config))
    winners = {key for key, state in tuned.log.kernels.items() if state.best_ms is not None}
    parts = breakdown(whole_ms, steps, costs, winners)
    runs = 1 if tuned.target.is_gpu else tuned.target.batch
    return tuple(
        LayerTime(
            layers=part.layers,
            kernel=part.kernel,
            kind=kernel.kind,
            time_ms=part.predicted_ms,
            flops=runs * kernel.flops,
            moved_bytes=runs * (kernel.weight_bytes + kernel.activation_bytes),
            is_tuned=part.is_tuned,
            kernel_ms=part.kernel_ms,
        )
        for part, (_, kernel) in zip(parts, steps, strict=True)
    )
