"""Limits that no subnet can meet, refused without a search: this imports little, so that the answer comes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.power import Power
from ofa_tvm.measurement.kernel_times import saved_model
from ofa_tvm.measurement.latency_bench import UNUSUAL
from ofa_tvm.nas.objectives import ENERGY, LATENCY, OBJECTIVES
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.errors import Infeasible, NotTuned, UserError
from ofa_tvm.tuner.tuned_space import TunedSpace


def require_reachable(
    model: LatencyModel,
    power: Power,
    space: SearchSpace,
    drawn: SearchSpace,
    limits: Mapping[str, float],
    doubt: float = 1.0,
) -> None:
    """Refuse limits that no subnet can meet, without a search.

    The least latency follows from the model's block times; everything else is least in the smallest subnet.

    Args:
        model: the latency model, of ``space``.
        power: what calls draw.
        space: the space.
        drawn: the space of the resolutions that may be taken.
        limits: by name of the objective; of latency, the low end of the predicted interval counts.
        doubt: factor by which the machine may be faster today than the model says.

    Raises:
        Infeasible: naming the limit and the nearest subnet.
    """
    for name, limit in limits.items():
        config = model.fastest(drawn.resolutions) if name == LATENCY else drawn.smallest
        genome = space.genomes([config])
        value = float(OBJECTIVES[name].values(model, power, genome)[0])
        certain = float(model.predict(genome)[1][0]) / doubt if name == LATENCY else value
        if certain > limit:
            what = OBJECTIVES[name]
            raise Infeasible(
                f"no subnet of {space.name} has {what.label} within {limit:g} {what.unit}",
                f"the nearest is {value:.4g} {what.unit} ({config.key}); allow {1.05 * value:.3g} {what.unit}",
                {"limit": name, "value": value, "subnet": config.key},
            )


def all_infeasible(errors: Sequence[Infeasible], budgets: Sequence[float]) -> Infeasible:
    """One error for several budgets: what is said of the loosest, which the others imply; and how many there were."""
    loosest = max(zip(budgets, errors, strict=True), key=lambda pair: pair[0])[1] if budgets else errors[0]
    tighter = sorted(budgets)[:-1] if (loosest.nearest or {}).get("limit") == LATENCY else []
    others = f"; nor, then, within {', '.join(f'{budget:g}' for budget in tighter)} ms" if tighter else ""
    return Infeasible(f"{loosest.what}{others}", loosest.hint, loosest.nearest)


def refuse_hopeless(tuned: TunedSpace, settings: SearchSettings, budgets: Sequence[float]) -> None:
    """Refuse at once limits that nothing can meet, where the target's saved latency model shows that.

    Raises:
        Infeasible: no budget can be met.
        NotTuned: no kernel of the space is tuned.
    """
    try:
        model = saved_model(tuned)
    except NotTuned:
        raise
    except UserError:
        return  # no model that could tell; measurements will
    except_latency = dict(settings.limits or {})
    if tuned.target.is_gpu:
        except_latency.pop(ENERGY, None)  # only measurements tell what it draws
    space = tuned.space
    drawn = space.with_resolutions(settings.resolutions)
    if settings.percentile != 50 or settings.busy_cores:
        return  # the saved model predicts the median call on a machine left alone
    hopeless = []
    for latency_limit in [{LATENCY: budget} for budget in budgets] or [{}]:
        limits = {**latency_limit, **except_latency}
        try:
            require_reachable(model, Power.of_cores(tuned.target.threads), space, drawn, limits, UNUSUAL)
        except Infeasible as error:
            hopeless.append(error)
    if len(hopeless) == max(1, len(budgets)):
        raise all_infeasible(hopeless, budgets)


def told(refused: Mapping[str, Infeasible]) -> tuple[str, str]:
    """What cannot be met, and what to try, by names of targets or precisions."""
    what = "; ".join(f"{name}: {error.what}" for name, error in refused.items())
    return what, "\n".join(f"{name}: {error.hint}" for name, error in refused.items() if error.hint)
