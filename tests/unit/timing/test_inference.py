"""What calls of a network draw."""

from __future__ import annotations

import pytest
from formula_device import window_figures

from ofa_tvm.support.ledger import CORE_WATTS
from ofa_tvm.timing.inference import Inference, Told, unknown_power
from ofa_tvm.timing.window import Timing, Window


def test_inference_is_busy_cores_for_the_time_of_its_calls_or_what_a_meter_says():
    calls = Inference((2.0, 1.9, 2.2), threads=3, batch=4, measured=True)
    cost = calls.cost(1_000_000)
    assert (cost.wall_s, cost.cpu_s) == pytest.approx((500, 1500))
    assert cost.energy_kwh == pytest.approx(1500 * CORE_WATTS[1] / 3.6e6)
    assert cost.energy_low_kwh == pytest.approx(1425 * CORE_WATTS[0] / 3.6e6)
    assert cost.energy_high_kwh == pytest.approx(1650 * CORE_WATTS[2] / 3.6e6)
    assert cost.method == "estimated (6 W per busy core, latency measured)"
    metered = Inference((2.0, 2.0, 2.0), 3, 4, measured=False, watts=5.0).cost(1_000_000)
    assert metered.energy_kwh == metered.energy_high_kwh == pytest.approx(500 * 5 / 3.6e6)
    assert metered.watt_hours.kinds == ("metered", "estimated")


@pytest.mark.parametrize(("percentile", "middle_ms"), [(50, 1.0), (90, 1.1)])
def test_calls_take_the_percentile_that_is_told_with_the_spread_of_its_windows(percentile, middle_ms):
    windows = tuple(Window.of(window_figures(share)) for share in (1.0, 1.02, 0.98))
    timing = Timing(windows=windows, host="", measured_at="", usual_calibration_ms=0.05)
    calls, unknown = Inference.of(
        Told(timing.told_ms(percentile), True, timing, percentile), (2, 1), None, {"kind": "llvm"}
    )
    assert not unknown
    assert calls is not None
    assert calls.ms == pytest.approx((middle_ms, 0.98 * middle_ms, 1.02 * middle_ms))
    assert (calls.threads, calls.batch, calls.measured) == (2, 1, True)


def test_why_calls_have_no_energy_is_told():
    assert Inference.of(Told(None, False), (1, 1), 5.0, {}) == (None, "no latency is known")
    calls, unknown = Inference.of(Told(1.0, True), (1, 1), None, {"kind": "cuda"})
    assert calls is None
    assert unknown == "a GPU's energy by call was not metered: give --watts, as a meter reads them"
    calls, _ = Inference.of(Told(1.0, False), (1, 4), 5.0, {"kind": "cuda"})
    assert calls == Inference((1.0, 1.0, 1.0), 1, 4, measured=False, watts=5.0)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"kind": "llvm", "mcpu": "znver4"}, ""),
        ({"kind": "llvm", "mtriple": "x86_64-linux-gnu"}, ""),
        ({"kind": "cuda"}, "a GPU's energy by call was not metered"),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, "watts of a busy core are known of x86 servers only"),
    ],
)
def test_power_is_known_of_what_it_was_measured_on(attributes, why):
    assert unknown_power(attributes) == why
