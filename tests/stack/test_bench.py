"""Engines agree, and the command reports what it timed."""

import json

import numpy as np
import pytest

from ofa_tvm import bench, engines
from ofa_tvm.engines import comparison
from ofa_tvm.engines.comparison import Speedup, time_calls
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import MBV3, SPACES, SubnetConfig


@pytest.fixture(autouse=True)
def registered(tiny_space, monkeypatch):
    """The tiny space by name."""
    monkeypatch.setitem(SPACES, tiny_space.name, tiny_space)


def run(*options):
    return bench.main(["--space", "tiny", "--resolution", "12", "--subnets", "2", "--seconds", "0.01", *options])


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
    for speedups in payload["geomean_speedup"].values():
        assert speedups.keys() == names - {"ofa_tvm"}
        assert all(0 < speedup["low"] <= speedup["geomean"] <= speedup["high"] for speedup in speedups.values())


def test_missing_engine_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(engines.OpenVino, "package", "no-such-package")
    only = ["--space", "tiny", "--subnet", "smallest", "--seconds", "0"]
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
