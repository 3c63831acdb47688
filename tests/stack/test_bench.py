"""Engines agree, and the command reports what it timed."""

import json
import os

import numpy as np
import pytest

from ofa_tvm import bench, engines
from ofa_tvm.engines import choice, comparison
from ofa_tvm.engines.comparison import Speedup, time_calls
from ofa_tvm.engines.fresh_process import starts_of
from ofa_tvm.engines.gpu import GpuLibrary, GpuTorch
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import LocalGpu
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3, SPACES, SubnetConfig
from ofa_tvm.support.errors import OfaTvmError


@pytest.fixture(autouse=True)
def registered(tiny_space, monkeypatch):
    """The tiny space by name."""
    monkeypatch.setitem(SPACES, tiny_space.name, tiny_space)


def run(*options):
    few = ["--space", "tiny", "--resolution", "12", "--subnets", "2", "--seconds", "0.01", "--starts", "0"]
    return bench.main([*few, *options])


def test_all_engines(tmp_path, capsys):
    assert run("--against", "ort,openvino,torch,default,loops", "--logs", str(tmp_path), "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema_version"] == 1
    names = {"ofa_tvm", "ort", "openvino", "torch", "default", "loops"}
    assert payload["engines"].keys() == names
    assert len({row["subnet"] for row in payload["subnets"]}) == 2
    for row in payload["subnets"]:
        assert row["reference"] == "ort"
        assert row["relative_error"].keys() == names
        assert max(row["relative_error"].values()) < 1e-4
        for timings in row["protocols"].values():
            assert timings.keys() == names
            assert all(0 < timing["low_ms"] <= timing["median_ms"] <= timing["high_ms"] for timing in timings.values())
            assert all(timing["median_ms"] <= timing["p90_ms"] <= timing["p99_ms"] for timing in timings.values())
    for speedups in payload["geomean_speedup"].values():
        assert speedups.keys() == names - {"ofa_tvm"}
        assert all(0 < speedup["low"] <= speedup["geomean"] <= speedup["high"] for speedup in speedups.values())


def test_starts_and_layers_stand_in_the_export_and_two_of_them_are_compared(tmp_path, capsys):
    one, other, logs = tmp_path / "one.json", tmp_path / "other.json", ["--logs", str(tmp_path)]
    asked = ["--against", "ort,openvino,torch", "--starts", "1", "--layers", "--export", str(one)]
    assert run(*asked, *logs) == 0
    text = capsys.readouterr().out
    assert all(words in text for words in ("p50 / p90 / p99", "peak MB", "GOP/s", "windows are", "(between layers)"))
    payload = json.loads(one.read_text())
    assert (payload["format"], payload["schema_version"]) == ("ofa_tvm.benchmark", 1)
    assert payload["machine_facts"]["cores"] >= 1 and payload["stability"]["verdict"]
    starts, layers = payload["starts"], payload["layers"]
    assert starts.keys() == payload["engines"].keys()
    assert all(start["load_ms"] > 0 and start["first_ms"] > 0 and start["file_mb"] > 0 for start in starts.values())
    assert starts["torch"]["peak_mb"] > 10 * starts["ofa_tvm"]["peak_mb"] > 0
    assert sum(call["share"] for call in layers["calls"]) == pytest.approx(1)
    assert all(call["microseconds"] > 0 and call["template"] for call in layers["calls"])
    assert layers["silent"] == ["torch"]
    for block in layers["blocks"][:-1]:
        assert block["microseconds"].keys() >= {"ofa_tvm", "ort", "openvino"}, block
    assert layers["blocks"][-1]["block"] == "(between layers)"
    assert run("--against", "ort", "--export", str(other), *logs) == 0
    capsys.readouterr()
    assert bench.main(["--compare", str(one), str(other), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["changes"]["blocks"].keys() == {"ofa_tvm", "ort"}
    assert compared["unchanged_engines"] == ["ort"]
    assert run("--against", "ort", "--seed", "8", "--export", str(other), *logs) == 0
    assert bench.main(["--compare", str(one), str(other)]) == 2
    assert "seed: 7 and 8" in capsys.readouterr().err


def test_int8_has_layers_too(tmp_path, capsys):
    only = ["--space", "tiny", "--subnet", "smallest", "--seconds", "0", "--starts", "0", "--logs", str(tmp_path)]
    assert bench.main([*only, "--dtype", "int8", "--against", "ort-int8", "--layers", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert all(call["kernel"].endswith("i8") for call in layers["calls"])
    assert all(block["microseconds"].get("ort-int8", 0) > 0 for block in layers["blocks"])


def test_threads_meet_between_the_kernels_that_are_profiled():
    network = SPACES["tiny"].network(SPACES["tiny"].largest)
    (times, again) = (
        engines.OfaTvm().kernel_times(network, random_weights(network), threads, runs=20) for threads in (1, 2)
    )
    assert [one.layers for one in times] == [one.layers for one in again]
    assert all(one.microseconds > 0 for one in (*times, *again))


class Broken(engines.Torch):
    """An engine that is gone before it answers."""

    def load_alone(self, file, network, threads):
        os._exit(7)


def test_an_engine_that_ends_without_an_answer_is_named():
    network = SPACES["tiny"].network(SPACES["tiny"].smallest)
    with pytest.raises(OfaTvmError, match="broken did not answer in a fresh process, which ended with 7"):
        starts_of({"broken": Broken()}, network, random_weights(network), 1, 1)


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, "nvidia-smi finds none"), (LocalGpu("A100", "sm_80", "580"), "this machine's A100 is sm_80")],
)
def test_a_gpu_target_needs_that_gpu(monkeypatch, capsys, found, said):
    monkeypatch.setattr(choice, "local_gpu", lambda: found)
    assert bench.main(["--target", "cuda-sm90"]) == 2
    assert said in capsys.readouterr().err


def test_a_gpu_target_is_timed_against_torch(monkeypatch):
    monkeypatch.setattr(choice, "local_gpu", lambda: LocalGpu("H200", "sm_90", "580"))
    found, missing = choice.chosen_engines(None, "cuda-sm90", load_target("cuda-sm90", dtype="float16"), None)
    assert missing == []
    assert {name: type(engine) for name, engine in found.items()} == {"ofa_tvm": GpuLibrary, "torch": GpuTorch}
    assert {engine.record()["precision"] for engine in found.values()} == {"float16"}


def test_missing_engine_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engines.OpenVino, "package", "no-such-package")
    only = ["--space", "tiny", "--subnet", "smallest", "--seconds", "0", "--starts", "0"]
    assert bench.main([*only, "--against", "openvino,torch", "--logs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert SPACES["tiny"].smallest.key in shown.out
    assert "openvino: not installed" in shown.out
    assert "pip install no-such-package" in shown.err
    assert "ours against torch" in shown.out


def test_bad_input_ends_with_2(capsys):
    assert run("--against", "ort,abacus") == 2
    assert "unknown engine 'abacus'" in capsys.readouterr().err
    assert run("--resolution", "13") == 2
    assert run("--target", "abacus") == 2


def test_engine_that_disagrees_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "relative_error", lambda found, expected: 0.5)
    assert run("--against", "torch", "--logs", str(tmp_path)) == 1
    assert "differs from ort" in capsys.readouterr().err


def test_torch_reference_runs_the_large_space():
    config = SubnetConfig(132, MBV3.smallest.stages)
    network = MBV3.network(config)
    weights = random_weights(network)
    images = np.random.default_rng(0).standard_normal((1, 132, 132, 3), np.float32)
    models = [engines.ENGINES[name]().prepare(network, weights, 1) for name in ("ort", "torch")]
    assert relative_error(models[1](images), models[0](images)) < 1e-4


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = time_calls(calls, 0.0, np.random.default_rng(0))
    block, rounds = comparison.BLOCK, comparison.MIN_ROUNDS
    for protocol, runs in comparison.PROTOCOLS.items():
        assert timings[protocol]["a"].runs == timings[protocol]["b"].runs == comparison.WINDOWS * rounds * runs
    blocks = order[: 2 * block * rounds]
    for start in range(0, len(blocks), block):
        assert len(set(blocks[start : start + block])) == 1
    for start in range(0, len(blocks), 2 * block):
        assert len(set(blocks[start : start + 2 * block])) == 2
    single = order[len(blocks) : len(blocks) + 2 * rounds]
    for start in range(0, len(single), 2):
        assert set(single[start : start + 2]) == {"a", "b"}


def test_a_timing_is_of_its_windows():
    timing = comparison.Timing.of([np.asarray([1.0, 2.0, 9.0]), np.asarray([4.0]), np.asarray([3.0, 3.0])])
    assert (timing.runs, timing.median_ms, timing.low_ms, timing.high_ms) == (6, 3.0, 2.0, 4.0)


def test_speedup_is_a_geometric_mean():
    speedup = Speedup.of([0.5, 2.0])
    assert speedup.geomean == pytest.approx(1.0)
    assert (speedup.low, speedup.high) == (0.5, 2.0)
    assert relative_error(np.asarray([np.nan], np.float32), np.ones(1, np.float32)) == float("inf")


def test_a_result_that_cannot_be_written_is_told_all_the_same(capsys):
    asked = ["--against", "default", "--seconds", "0", "--starts", "0", "--export", "/dev/full"]
    assert bench.main(["--subnet", "smallest", *asked, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["subnets"]
    assert told["error"]["reason"] == "/dev/full cannot be written: No space left on device"
