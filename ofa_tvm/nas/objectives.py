"""What a subnet costs: the quantities that a search may limit or minimise, for whole populations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.spaces import Genomes
from ofa_tvm.spaces.subnet_table import QUANTITIES
from ofa_tvm.support.ledger import CORE_WATTS

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
