"""What work costs in CO2 equivalents, by Software Carbon Intensity (ISO/IEC 21031:2024).

Operational emissions are energy times what surrounds the machine (PUE) times the grid's emissions; embodied ones are
the hardware's manufacture, by the share of its life that the work took. Nothing is offset. Figures and their sources
are in ``carbon.toml``.
"""

from __future__ import annotations

import functools
import math
import tomllib
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from ofa_tvm.support.amounts import Amount, added
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.ledger import Cost

WORLD = "world"
_YEAR_S = 365.25 * 24 * 3600


@dataclass(frozen=True)
class Grid:
    """Emissions of a region's electricity in a year; ``year`` is None where the user gave the figure."""

    region: str
    g_per_kwh: float
    year: int | None
    source: str


@dataclass(frozen=True)
class Hardware:
    """What a machine's manufacture emitted, with bounds, over the years and cores that share it."""

    name: str
    kg: float
    kg_low: float
    kg_high: float
    years: float
    cores: int
    source: str

    def share(self, core_seconds: float) -> Amount:
        """Emissions of so many seconds of one of its cores."""
        part = 1e3 * core_seconds / (self.years * _YEAR_S * self.cores)
        return Amount(self.kg * part, self.kg_low * part, self.kg_high * part, "g", ("published", "assumed"))


@dataclass(frozen=True)
class Assumptions:
    """What emissions are computed with."""

    pue: float
    pue_source: str
    grid: Grid
    server: Hardware
    gpu: Hardware

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Footprint:
    """Energy in Wh and emissions in g CO2e."""

    energy: Amount
    operational: Amount
    embodied: Amount

    @property
    def emissions(self) -> Amount:
        """Operational and embodied ones together."""
        return added((self.operational, self.embodied), "g")

    def times(self, factor: float, *kinds: str) -> Footprint:
        """Of so many times as much work."""
        return Footprint(*(part.times(factor, *kinds) for part in (self.energy, self.operational, self.embodied)))

    def record(self) -> Record:
        """As a JSON object."""
        parts = ("energy", "operational", "embodied", "emissions")
        return {name: getattr(self, name).record() for name in parts}


def summed(footprints: list[Footprint]) -> Footprint:
    """All of them together."""
    units = {"energy": "Wh", "operational": "g", "embodied": "g"}
    return Footprint(**{name: added((getattr(one, name) for one in footprints), unit) for name, unit in units.items()})


@functools.cache
def _figures() -> dict[str, Any]:
    return tomllib.loads(files("ofa_tvm.support").joinpath("carbon.toml").read_text())


def regions() -> dict[str, Grid]:
    """The grids that are known, by region."""
    return {
        region: Grid(region, g_per_kwh, part["year"], part["source"])
        for part in _figures()["grid"]
        for region, g_per_kwh in part["g_per_kwh"].items()
    }


def assumptions(pue: float | None = None, region: str | None = None, g_per_kwh: float | None = None) -> Assumptions:
    """The figures that ship, but for those that are given.

    Raises:
        UserError: an unknown region, or an impossible figure.
    """
    if region is not None and g_per_kwh is not None:
        raise UserError("--region and --grid say the same", "give one of them")
    if pue is not None and not 1 <= pue < math.inf:
        raise UserError(f"--pue {pue:g} cannot be: all of a building uses no less than its machines", "1 or more")
    if g_per_kwh is not None and not 0 <= g_per_kwh < math.inf:
        raise UserError(f"--grid {g_per_kwh:g} cannot be", "grams of CO2 equivalents for a kWh, such as 481")
    known, name = regions(), "-".join((region or WORLD).lower().split())
    if name not in known:
        raise UserError(f"unknown region '{region}'", f"choose one of {', '.join(known)}, or give --grid G_PER_KWH")
    grid = known[name] if g_per_kwh is None else Grid("as given", g_per_kwh, None, "given by --grid")
    building = _figures()["pue"]
    return Assumptions(
        building["value"] if pue is None else pue,
        building["source"] if pue is None else "given by --pue",
        grid,
        Hardware(**_figures()["server"]),
        Hardware(**_figures()["gpu"]),
    )


def uses_gpu(cost: Cost) -> bool:
    """Whether a GPU did part of the work."""
    return "GPU" in cost.method


def footprint(cost: Cost, given: Assumptions) -> Footprint:
    """Energy and emissions of a cost; a GPU's manufacture counts where its energy was to be counted."""
    energy = cost.watt_hours
    hardware = [given.server.share(cost.cpu_s)]
    if uses_gpu(cost):
        hardware.append(given.gpu.share(cost.wall_s))
    grid_kinds = ("published",) if given.grid.year is not None else ("assumed",)
    operational = energy.times(given.pue * given.grid.g_per_kwh / 1e3, *grid_kinds, "assumed", unit="g")
    return Footprint(energy, operational, added(hardware, "g"))
