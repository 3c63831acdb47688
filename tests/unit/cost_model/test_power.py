"""What calls draw, as it is fitted to metered energies."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.cost_model.power import Power

RNG = np.random.default_rng(0)
LATENCY_MS, MMACS = RNG.uniform(0.2, 2, 40), RNG.uniform(50, 500, 40)


@pytest.mark.parametrize(("watts", "mj_per_mmac"), [(80.0, 0.05), (150.0, 0.0), (0.0, 0.3)])
def test_what_was_metered_is_found_again(watts, mj_per_mmac):
    true_mj = watts * LATENCY_MS + mj_per_mmac * MMACS
    found = Power.fit(LATENCY_MS, MMACS, true_mj)
    assert (found.watts, found.mj_per_mmac) == pytest.approx((watts, mj_per_mmac), abs=1e-6)
    noisy = Power.fit(LATENCY_MS, MMACS, true_mj * RNG.normal(1, 0.05, 40))
    assert noisy.energy_mj(LATENCY_MS, MMACS) == pytest.approx(true_mj, rel=0.06)


def test_one_measurement_is_enough_and_neither_part_is_below_nothing():
    one = Power.fit(np.asarray([0.5]), np.asarray([100.0]), np.asarray([60.0]))
    assert one.energy_mj(np.asarray([0.5]), np.asarray([100.0])) == pytest.approx([60.0])
    odd = Power.fit(np.asarray([1.0, 2.0]), np.asarray([300.0, 100.0]), np.asarray([100.0, 300.0]))
    assert odd.watts >= 0
    assert odd.mj_per_mmac >= 0


def test_cores_draw_as_long_as_they_are_busy():
    assert Power.of_cores(2).energy_mj(np.asarray([0.5]), np.asarray([100.0])) == pytest.approx([6.0])
