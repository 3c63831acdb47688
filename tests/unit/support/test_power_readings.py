"""A power meter's file: energy between two times, only where it was read all along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.ledger import estimated
from ofa_tvm.support.power_readings import PowerReadings


@pytest.fixture
def read(tmp_path):
    def made(text):
        path = tmp_path / "meter.csv"
        path.write_text(text)
        return PowerReadings.read(path)

    return made


def test_energy_is_interpolated_between_readings(read):
    readings = read("time,watts,volts\n100,10,230\n110,10,230\n120,30,230\n")
    assert readings.joules(100, 120) == pytest.approx(100 + 200)
    assert readings.joules(105, 115) == pytest.approx(50 + 75)
    assert readings.joules(112, 114) == pytest.approx(2 * 16)
    assert readings.joules(99, 110) is None
    assert readings.joules(110, 121) is None


def test_a_gap_leaves_the_energy_unknown(read):
    readings = read("time,watts\n0,10\n10,10\n200,10\n210,10\n")
    assert readings.joules(0, 10) == pytest.approx(100)
    assert readings.joules(5, 205) is None
    assert readings.joules(50, 60) is None
    assert readings.joules(200, 210) == pytest.approx(100)


def test_a_phase_that_it_covers_is_metered_and_others_stay(read):
    readings = read("Time,Watts\n2026-11-28T08:00:00Z,36\n2026-11-28T09:00:30+01:00,36\n2026-11-28T08:01:00,36\n")
    phase = replace(estimated("tune", 40.0, 40.0), ended_at="2026-11-28T08:00:50.000+00:00")
    metered = readings.metered(phase)
    assert metered.energy_kwh == metered.energy_low_kwh == pytest.approx(36 * 40 / 3.6e6)
    assert metered.method == "metered (meter.csv, all that the meter feeds)"
    early = replace(phase, ended_at="2026-11-28T08:00:30.000+00:00")
    assert readings.metered(early) == early
    unknown = estimated("tune", 40.0, 40.0)
    assert readings.metered(unknown) == unknown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no columns time and watts"),
        ("when,watts\n1,2\n2,2\n", "no columns time and watts"),
        ("time,watts\n1,2\n", "has 1 readings"),
        ("time,watts\n1,2\nsoon,2\n", "line 3: 'soon,2' is no time and watts"),
        ("time,watts\n1,2\n2,\n", "line 3: '2,' is no time and watts"),
        ("time,watts\n1,2\n2\n", "line 3: '2,None' is no time and watts"),
        ("time,watts\n1,2\n2,nan\n", "line 3: '2,nan' cannot be"),
        ("time,watts\n1,2\n2,-3\n", "line 3: '2,-3' cannot be"),
        ("time,watts\n2,2\n1,2\n", "do not grow"),
        ("time,watts\n1,2\n1,2\n", "do not grow"),
    ],
)
def test_bad_files_are_named_with_their_line(read, text, said):
    with pytest.raises(UserError, match=said):
        read(text)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        PowerReadings.read(tmp_path / "none.csv")


def test_a_device_is_no_file_of_readings():
    with pytest.raises(UserError, match="no regular file"):
        PowerReadings.read(Path("/dev/zero"))
