"""What a subnet costs: the quantities that a search may limit or minimise, for whole populations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model import LatencyModel
from ofa_tvm.energy import CORE_WATTS
from ofa_tvm.errors import Infeasible
from ofa_tvm.spaces import Genomes, SearchSpace
from ofa_tvm.subnet_table import QUANTITIES

Floats = NDArray[np.float64]
LATENCY = "latency"


@dataclass(frozen=True)
class Objective:
    """One quantity, smaller is better.

    Args:
        label: for people.
        unit: of its values.
        values: from a latency model, the target's threads and genomes (n, genes) to values, shape (n,).
    """

    label: str
    unit: str
    values: Callable[[LatencyModel, int, Genomes], Floats]


def _column(name: str) -> Callable[[LatencyModel, int, Genomes], Floats]:
    column = QUANTITIES.index(name)
    return lambda model, threads, genomes: model.table.quantities(genomes)[:, column] / 1e6


def _energy_mj(model: LatencyModel, threads: int, genomes: Genomes) -> Floats:
    """Busy cores times the power of one: an estimate that orders subnets of one target as their latency does."""
    return model.mean_ms(genomes) * threads * CORE_WATTS[1]


OBJECTIVES: dict[str, Objective] = {
    LATENCY: Objective("predicted latency", "ms", lambda model, threads, genomes: model.mean_ms(genomes)),
    "energy": Objective("energy of one call, estimated", "mJ", _energy_mj),
    "size": Objective("weights", "MB", _column("parameter_bytes")),
    "macs": Objective("MACs", "M", _column("macs")),
    "memory": Objective(
        "peak activation memory", "MB", lambda model, threads, genomes: model.table.peak_activation_bytes(genomes) / 1e6
    ),
}


def require_reachable(
    model: LatencyModel, threads: int, space: SearchSpace, drawn: SearchSpace, limits: Mapping[str, float]
) -> None:
    """Refuse limits that no subnet can meet, without a search.

    The least latency follows from the model's block times; everything else is least in the smallest subnet.

    Args:
        model: the latency model, of ``space``.
        threads: of the target.
        space: the space.
        drawn: the space of the resolutions that may be taken.
        limits: by name of the objective; of latency, the low end of the predicted interval counts.

    Raises:
        Infeasible: naming the limit and the nearest subnet.
    """
    for name, limit in limits.items():
        config = model.fastest(drawn.resolutions) if name == LATENCY else drawn.smallest
        genome = space.genomes([config])
        value = float(OBJECTIVES[name].values(model, threads, genome)[0])
        certain = float(model.predict(genome)[1][0]) if name == LATENCY else value
        if certain > limit:
            what = OBJECTIVES[name]
            raise Infeasible(
                f"no subnet of {space.name} has {what.label} within {limit:g} {what.unit}",
                f"the nearest is {value:.4g} {what.unit} ({config.key}); allow {1.05 * value:.3g} {what.unit}",
            )
