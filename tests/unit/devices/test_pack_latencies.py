"""What a GPU measured of single kernels is the start of its latency model, however many kernels a layer takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import packed
from ofa_tvm.devices.pack.reader import import_kernels
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement import pack_rounds
from ofa_tvm.measurement.kernel_times import call_costs, latency_table
from ofa_tvm.measurement.pack_rounds import PackOrder
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.support import console
from ofa_tvm.support.files import write_json
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import Budget
from ofa_tvm.tuner.tuned_space import TunedSpace

SPACE = MBV3_CIFAR.with_resolutions((MBV3_CIFAR.largest.resolution,))


@pytest.mark.seconds(3)
@pytest.mark.parametrize("name", ["cuda-sm90", "cuda-sm90-templates"])
def test_kernels_of_a_gpu_add_up_to_its_subnets(tmp_path, name):
    target = load_target(name)
    tuned = TunedSpace(SPACE, target, TuningLog(target, tmp_path / "logs"))
    one = Candidate(next(iter(tuned.kernels())), "default", {})
    conditions = {"fingerprint": target.fingerprint, "conditions": target.conditions}
    write_json(tmp_path / "manifest.json", {"schema": SCHEMA, "round": "r", "target": name, **conditions})
    pack_files.append_line(tmp_path / pack_files.ENTRIES, {"id": one.digest, "candidate": packed(one)})
    result = {"id": one.digest, "status": "ok", "times_ms": [0.1], "is_checked": True}
    for line in ({"device": {"name": "NVIDIA Made Up"}}, result):
        pack_files.append_line(tmp_path / pack_files.RESULTS, {"round": "r", **line})
    with tuned.log.exclusive():
        assert import_kernels(tmp_path, target, tuned.log).results == 1
    table, estimated = latency_table(tuned)
    assert estimated == len(tuned.kernels()) - 1
    costs, _ = call_costs(tuned)
    calls = tuned.calls(SPACE.network(SPACE.largest))
    assert table.kernel_ms(SPACE.genomes([SPACE.largest]))[0] == pytest.approx(sum(costs[call.key] for call in calls))


def test_building_subnets_into_a_pack_tells_how_long_it_will_take(tmp_path, monkeypatch, capsys):
    target = load_target("x86", device="pack")
    tuned = TunedSpace(SPACE, target, TuningLog(target, tmp_path / "logs"))
    monkeypatch.setattr(pack_rounds, "_add_subnet", lambda *arguments: False)
    monkeypatch.setattr(console, "PLAIN_LINE_EVERY_S", 0)
    order = PackOrder(tuned, SPACE.resolutions, Budget(0, None, 1), samples=3, subnets=[SPACE.largest])
    writer: Any = SimpleNamespace(is_full=False)
    assert pack_rounds._add_subnets(order, writer) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"building subnets: {number}/4" for number in range(1, 5)]
    assert all(" left " in line for line in lines)
