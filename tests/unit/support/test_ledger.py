"""The ledger: what is metered, what is estimated, and that they are not confused."""

from __future__ import annotations

import pytest
from fake_nvml import FakeNvml

from ofa_tvm.support import ledger as energy
from ofa_tvm.support import nvml as driver
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl
from ofa_tvm.support.ledger import CORE_WATTS, Cost, Ledger, Meter, estimated, total

NO_COUNTERS = "no-such-folder"


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """RAPL's files of two packages; set to joules with ``counters(first, second)``."""
    monkeypatch.setattr(energy, "_RAPL", tmp_path)

    def write(*joules: float) -> None:
        for zone, value in enumerate(joules):
            folder = tmp_path / f"intel-rapl:{zone}"
            folder.mkdir(exist_ok=True)
            (folder / "energy_uj").write_text(f"{round(value * 1e6)}\n")

    return write


def test_estimate_is_core_seconds_times_watts():
    cost = estimated("train", wall_s=100.0, cpu_s=3600.0)
    low, middle, high = CORE_WATTS
    assert cost.energy_low_kwh == pytest.approx(low / 1000)
    assert cost.energy_kwh == pytest.approx(middle / 1000)
    assert cost.energy_high_kwh == pytest.approx(high / 1000)
    assert cost.method.startswith("estimated")
    assert "train: 100.0 s, 3600.0 CPU s, 6 Wh" in str(cost)


def test_meter_estimates_without_counters(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_RAPL", tmp_path / NO_COUNTERS)
    meter = Meter()
    sum(range(200_000))
    cost = meter.read("work")
    assert cost.phase == "work" and cost.wall_s >= 0 and cost.cpu_s >= 0
    assert cost.energy_low_kwh <= cost.energy_kwh <= cost.energy_high_kwh
    assert cost.method.startswith("estimated")


def test_meter_reads_all_packages(counters):
    counters(10, 20)
    meter = Meter()
    counters(3610, 3620)
    cost = meter.read("work")
    assert cost.energy_kwh == pytest.approx(2 * 3600 / 3.6e6)
    assert cost.energy_low_kwh == cost.energy_kwh == cost.energy_high_kwh
    assert cost.method.startswith("metered")


def test_wrapped_counter_falls_back_to_an_estimate(counters):
    counters(1000)
    meter = Meter()
    counters(1)
    assert meter.read("work").method.startswith("estimated")


def test_total_names_every_method():
    metered = Cost("a", 1.0, 2.0, 3.0, 3.0, 3.0, "metered (RAPL, whole package)")
    both = total("all", [metered, estimated("b", 4.0, 3600.0), metered])
    assert both.phase == "all" and both.wall_s == 6.0 and both.cpu_s == 3604.0
    assert both.energy_kwh == pytest.approx(6.006)
    assert both.method == "estimated (6 W per busy core) + metered (RAPL, whole package)"
    assert total("none", []).method == "nothing measured"


def test_ledger_keeps_interrupted_phases(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with ledger.phase("first"):
        pass
    with pytest.raises(KeyboardInterrupt), ledger.phase("second"):
        raise KeyboardInterrupt
    ledger.add(estimated("third", 1.0, 1.0))
    costs = Ledger(ledger.path).costs()
    assert [cost.phase for cost in costs] == ["first", "second", "third"]
    assert costs[2] == estimated("third", 1.0, 1.0)


def test_foreign_line_in_the_ledger_is_a_user_error(tmp_path):
    path = tmp_path / "ledger.jsonl"
    append_jsonl(path, [{"phase": "x"}])
    with pytest.raises(UserError, match="line 1, is damaged: missing key 'wall_s'"):
        Ledger(path).costs()


COUNTS = {"0": 5_000, "1": 100_000, "GPU-7": 700_000}
"""The driver's count of three GPUs' millijoules, by how they are asked for."""


@pytest.fixture
def nvml(monkeypatch, tmp_path):
    """A driver with these counts."""
    (tmp_path / "driver").mkdir()
    fake = FakeNvml(tmp_path / "driver", COUNTS)
    monkeypatch.setattr(driver, "LIBRARY", str(fake.library))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.mark.parametrize(("visible", "gpu"), [(None, "0"), ("1,0", "1"), ("GPU-7", "GPU-7")])
def test_a_gpus_energy_is_added_and_said(counters, nvml, monkeypatch, tmp_path, visible, gpu):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    counters(10)
    ledger = Ledger(tmp_path / "ledger.jsonl", uses_gpu=True)
    with ledger.phase("train"):
        counters(3610)
        nvml.set(gpu, COUNTS[gpu] + 7_200_000)
    (cost,) = ledger.costs()
    assert cost.energy_kwh == cost.energy_low_kwh == cost.energy_high_kwh == pytest.approx((3600 + 7200) / 3.6e6)
    assert cost.method == "metered (RAPL, whole package), GPU metered (NVML, whole GPU)"


def test_work_that_uses_no_gpu_does_not_pay_for_it(counters, nvml):
    counters(0)
    meter = Meter()
    nvml.set("0", COUNTS["0"] + 1_000_000)
    assert meter.read("search").energy_kwh == 0


@pytest.mark.parametrize("broken", ["no GPU", "no driver", "an old driver"])
def test_a_gpu_that_cannot_be_metered_is_said(counters, nvml, monkeypatch, broken):
    if broken == "no GPU":
        nvml.remove("0")
    else:
        monkeypatch.setattr(driver, "LIBRARY", {"no driver": "libnone.so", "an old driver": "libc.so.6"}[broken])
    counters(0)
    meter = Meter(uses_gpu=True)
    counters(36)
    cost = meter.read("train")
    assert cost.energy_kwh == pytest.approx(36 / 3.6e6)
    assert cost.method.endswith("GPU not counted")
