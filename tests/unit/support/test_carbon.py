"""Emissions: each figure has a source, and operational and embodied ones are what the formulas say."""

from __future__ import annotations

import pytest

from ofa_tvm.support.carbon import Hardware, assumptions, footprint, regions, summed
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.ledger import Cost, estimated

METERED = Cost("train", 3600.0, 7200.0, 2.0, 2.0, 2.0, "metered (RAPL, whole package)")


def test_every_grid_has_a_year_and_a_source():
    grids = regions()
    assert len(grids) > 12
    for name, grid in grids.items():
        assert grid.region == name
        assert 0 < grid.g_per_kwh < 1100
        assert grid.year is not None and 2020 <= grid.year <= 2030
        assert len(grid.source) > 10


def test_the_world_is_the_default_and_sources_are_said():
    given = assumptions()
    assert (given.grid.region, given.pue) == ("world", 1.0)
    assert given.pue_source.startswith("assumed")
    assert all(one.kg_low < one.kg < one.kg_high and one.source for one in (given.server, given.gpu))
    own = assumptions(pue=1.2, g_per_kwh=20.0)
    assert (own.pue, own.grid.g_per_kwh, own.grid.year) == (1.2, 20.0, None)
    assert "--grid" in own.grid.source and "--pue" in own.pue_source


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"region": "atlantis"}, "unknown region 'atlantis'"),
        ({"region": "france", "g_per_kwh": 3.0}, "say the same"),
        ({"pue": 0.9}, "--pue 0.9 cannot be"),
        ({"pue": float("nan")}, "--pue nan cannot be"),
        ({"g_per_kwh": -1.0}, "--grid -1 cannot be"),
        ({"g_per_kwh": float("inf")}, "--grid inf cannot be"),
    ],
)
def test_impossible_figures_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        assumptions(**options)


def test_operational_emissions_are_energy_times_pue_times_grid():
    found = footprint(METERED, assumptions(pue=1.5, g_per_kwh=100.0))
    assert found.energy.value == pytest.approx(2000)
    assert found.operational.value == found.operational.low == pytest.approx(2 * 1.5 * 100)
    assert found.operational.kinds == ("metered", "assumed")
    assert footprint(METERED, assumptions()).operational.kinds == ("metered", "published", "assumed")


def test_hardware_counts_by_its_share_of_cores_and_time():
    server = Hardware("a server", 1000.0, 500.0, 2000.0, years=4, cores=10, source="")
    tenth = server.share(4 * 365.25 * 24 * 3600)
    assert (tenth.value, tenth.low, tenth.high) == pytest.approx((100e3, 50e3, 200e3))
    given = assumptions()
    assert footprint(METERED, given).embodied == given.server.share(7200.0)
    on_gpu = Cost("train", 3600.0, 7200.0, 2.0, 2.0, 2.0, "metered (RAPL), GPU metered (NVML, whole GPU)")
    more = footprint(on_gpu, given).embodied.value - footprint(METERED, given).embodied.value
    assert more == pytest.approx(given.gpu.share(3600.0).value)


def test_sums_add_every_part():
    one = footprint(METERED, assumptions())
    two = summed([one, one])
    assert two.emissions.value == pytest.approx(2 * one.operational.value + 2 * one.embodied.value)
    assert summed([]).emissions.value == 0


def test_estimates_stay_estimates():
    assert footprint(estimated("tune", 1.0, 1.0), assumptions()).emissions.kinds == (
        "estimated",
        "published",
        "assumed",
    )
