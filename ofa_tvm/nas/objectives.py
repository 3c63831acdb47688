"""What a subnet costs: the quantities that a search may limit or minimise, for whole populations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.cost_model.power import Power
from ofa_tvm.spaces import Genomes
from ofa_tvm.spaces.subnet_table import QUANTITIES

Floats = NDArray[np.float64]
LATENCY, ENERGY = "latency", "energy"


@dataclass(frozen=True)
class Objective:
    """One quantity, smaller is better.

    Args:
        label: for people.
        unit: of its values.
        values: from a latency model, what calls draw and genomes (n, genes) to values, shape (n,).
    """

    label: str
    unit: str
    values: Callable[[LatencyModel, Power, Genomes], Floats]


def _column(name: str) -> Callable[[LatencyModel, Power, Genomes], Floats]:
    column = QUANTITIES.index(name)
    return lambda model, power, genomes: model.table.quantities(genomes)[:, column] / 1e6


_MMACS = _column("macs")


def _energy_mj(model: LatencyModel, power: Power, genomes: Genomes) -> Floats:
    return power.energy_mj(model.mean_ms(genomes), _MMACS(model, power, genomes))


OBJECTIVES: dict[str, Objective] = {
    LATENCY: Objective("predicted latency", "ms", lambda model, power, genomes: model.mean_ms(genomes)),
    ENERGY: Objective("energy of one call", "mJ", _energy_mj),
    "size": Objective("weights", "MB", _column("parameter_bytes")),
    "macs": Objective("MACs", "M", _MMACS),
    "memory": Objective(
        "peak activation memory", "MB", lambda model, power, genomes: model.table.peak_activation_bytes(genomes) / 1e6
    ),
}
