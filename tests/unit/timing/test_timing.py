"""What is told of windows."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from formula_device import window_figures
from pydantic import ValidationError

from ofa_tvm.timing.busy_cores import busy_cores
from ofa_tvm.timing.turns import WindowPlan, in_turn
from ofa_tvm.timing.window import SLOW, Timing, Window, usual_calibration_ms

USUAL_MS = 0.05


def window(ms: float = 1.0, calibration_ms: float = USUAL_MS, calls: int = 100, left_out: int = 0) -> Window:
    return Window.of(window_figures(ms, calibration_ms, calls, left_out))


def timing(*windows: Window, busy: int = 0) -> Timing:
    return Timing(
        windows=windows, host="a", measured_at="2026-01-01T00:00:00", usual_calibration_ms=USUAL_MS, busy_cores=busy
    )


def test_figures_come_back_as_they_were():
    figures = (1.0, 2.0, 3.0, 1.5, 2.5, 3.5, 100.0, 7.0, 0.9, 0.05)
    assert Window.of(figures).figures() == figures
    assert Window.of(figures).any_p90_ms == 2.5


@pytest.mark.parametrize("figures", [[1.0] * 9, [1.0] * 11, [float("nan")] * 10, [0.0] * 10, [-1.0] * 10])
def test_figures_that_cannot_be_are_refused(figures):
    with pytest.raises((ValidationError, ValueError)):
        Window.of(figures)


@pytest.mark.parametrize(
    ("one", "disturbed"),
    [
        (window(), False),
        (window(left_out=70), False),
        (window(left_out=80), True),
        (window(left_out=100), True),
        (window(calls=9), False),
        (window(calls=12, left_out=10), True),
        (window(calibration_ms=SLOW * USUAL_MS * 1.01), True),
        (window(calibration_ms=0), False),
    ],
)
def test_a_window_is_disturbed_by_few_calls_or_a_slow_calibration_kernel(one, disturbed):
    assert one.is_disturbed(USUAL_MS) is disturbed


def test_what_was_left_out_is_told_unless_it_was_wanted():
    assert timing(window(left_out=30), window(), window()).share_left_out == pytest.approx(0.1)
    assert timing(window(left_out=30), busy=1).share_left_out == 0
    assert timing(window(1.0), window(3.0), window(2.0)).any_ms() == 2.0


def test_nothing_is_slow_where_nobody_knows_what_is_usual():
    assert not window(calibration_ms=9).is_disturbed(usual_calibration_ms([]))
    assert usual_calibration_ms([window(calibration_ms=0), window(), window(calibration_ms=0.06)]) == USUAL_MS


def test_the_median_window_is_told_and_the_slowest_decides():
    found = timing(window(1.0), window(1.3), window(1.1))
    assert (found.told_ms(), found.slowest_ms(), found.spread_ms()) == (1.1, 1.3, (1.0, 1.3))
    assert found.told_ms(90) == pytest.approx(1.21)
    assert found.is_sound


def test_disturbed_windows_do_not_count_where_there_are_enough_others():
    slow = window(9.0, calibration_ms=0.1)
    assert timing(slow, window(1.0), window(1.2), window(1.1), slow).spread_ms() == (1.0, 1.2)
    few = timing(slow, window(1.0), window(1.1))
    assert not few.is_sound
    assert few.slowest_ms() == 9


def test_on_a_machine_kept_busy_all_calls_of_all_windows_count():
    figures = [*window_figures(1.0)[:3], 2.0, 3.0, 4.0, 100, 90, 0.3, 0.2]
    found = timing(*[Window.of(figures)] * 3, busy=2)
    assert found.is_sound
    assert (found.told_ms(), found.told_ms(99)) == (2, 4)


def test_windows_are_taken_in_turn_and_apart():
    order, starts = [], []

    def subject(name):
        def run():
            order.append(name)
            starts.append(time.monotonic())
            return len(order)

        return run

    assert in_turn([subject("a"), subject("b")], WindowPlan(3, 1, 0.05)) == [[1, 3, 5], [2, 4, 6]]
    assert order == ["a", "b"] * 3
    assert starts[2] - starts[0] >= 0.05


def test_cores_are_kept_busy_and_let_go():
    with busy_cores(2) as pids:
        before = [_cpu_ticks(pid) for pid in pids]
        deadline = time.monotonic() + 30
        while any(_cpu_ticks(pid) == ticks for pid, ticks in zip(pids, before, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11])
