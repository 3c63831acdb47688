"""What a Python program calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ofa_tvm
from ofa_tvm.api.bundles import load_bundle
from ofa_tvm.api.latency import Predictor, measure, predict
from ofa_tvm.api.loading import load_space, load_supernet, load_target
from ofa_tvm.api.subnets import describe, sample
from ofa_tvm.api.tuning import tune
from ofa_tvm.support.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def arm():
    """Its predictions are the same on every machine."""
    return load_target("arm")


def test_everything_promised_is_there_and_loaded_late():
    code = "import sys, ofa_tvm; before = set(sys.modules); print(*before); assert ofa_tvm.load_space('mbv3-cifar')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "tvm", "numpy", "pydantic"} & set(done.stdout.split())
    code = "import ofa_tvm; print(*(getattr(ofa_tvm, name).__module__ for name in ofa_tvm.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == len(ofa_tvm.__all__)
    assert all(module.startswith("ofa_tvm.") for module in done.stdout.split())
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        _ = ofa_tvm.serach


def test_spaces_and_subnets():
    space = load_space("mbv3-cifar", classes=7)
    subnets = sample(space, 50, seed=3)
    assert len({subnet.key for subnet in subnets}) == 50 and sample(space, 50, seed=3) == subnets
    whole = describe(space, "largest")
    assert whole.key == space.largest.key and whole.macs > describe(space, "smallest").macs
    assert whole.layers[-1] == ("classifier", "linear") and whole.parameters > 0
    with pytest.raises(UserError):
        describe(space, "r1.9x9")
    with pytest.raises(UserError, match="unknown space"):
        load_space("mbv9")


def test_ten_thousand_predictions_are_columns(arm):
    supernet = load_supernet()
    columns = predict(["smallest", *sample(supernet.space, 10_000), "largest"], arm, supernet)
    assert {len(column) for column in columns.values()} == {10_002}
    assert columns["key"][0] == supernet.space.smallest.key
    assert np.all(columns["latency_low_ms"] < columns["latency_ms"])
    assert np.all(columns["latency_ms"] < columns["latency_high_ms"])
    for name in ("latency_ms", "top1", "macs", "bytes"):
        assert columns[name][0] < np.median(columns[name]) < columns[name][-1]
    assert columns["macs"][-1] == describe(supernet.space, "largest").macs
    without = Predictor(supernet.space, arm)(["largest"])
    smaller = replace(supernet, facts=replace(supernet.facts, training={"plan": {"resolutions": [24]}}))
    assert np.isnan(predict(["smallest", "largest"], arm, smaller)["top1"]).tolist() == [False, True]
    assert np.isnan(without["top1"][0]) and without["latency_ms"][0] == columns["latency_ms"][-1]


def test_a_command_says_the_same(arm, capsys):
    import ofa_tvm.predict as predict_command

    supernet = load_supernet()
    assert predict_command.main(["--target", "arm", "--subnet", "largest", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["subnets"]
    columns = predict(["largest"], arm, supernet)
    assert row["predicted_ms"] == pytest.approx(columns["latency_ms"][0])
    assert row["predicted_top1"] == pytest.approx(columns["top1"][0])


def test_tune_and_measure(tmp_path):
    target = load_target("x86", logs=tmp_path)
    space = load_space("mbv3-cifar").with_resolutions([24])
    report = tune(space, target, trials=3, trials_per_kernel=1)
    assert report.summary.trials == 3 and report.coverage.tuned >= 1
    again = tune(space, target, trials=3, trials_per_kernel=1)
    assert again.coverage.tuned > report.coverage.tuned
    columns = measure(["smallest", "largest"], target, space)
    assert 0 < columns["latency_ms"][0] < columns["latency_ms"][1]
    assert np.all(columns["fastest_ms"] <= columns["latency_ms"])
    assert np.all(columns["latency_ms"] <= columns["slowest_ms"])


def test_the_example_draws_a_front(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "search_from_python.py"), "--target", "arm", "--count", "500"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=True)
    latencies = [float(line.split()[0]) for line in done.stdout.splitlines()[1:-1]]
    assert len(latencies) > 3 and latencies == sorted(latencies)
    assert (tmp_path / "front.svg").read_text().count("<circle") == 500


def test_the_notebook_runs():
    cells = json.loads((ROOT / "examples" / "predict.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert load_supernet().space.parse(done.stdout.partition(":")[0])
    assert "M MACs" in done.stdout


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_bundle(tmp_path / "none")


def test_pictures_are_seen_as_the_bundles_program_sees_them(tmp_path):
    from ofa_tvm.data.photograph import open_square

    pixels = np.random.default_rng(0).integers(0, 256, (50, 81, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    square = open_square(tmp_path / "wide.png", 25)
    np.testing.assert_array_equal(square, open_square(pixels, 25))
    assert square.shape == (25, 25, 3) and square.dtype == np.float32
    half = pixels[:, 15:65].reshape(25, 2, 25, 2, 3).mean((1, 3))
    assert abs(float(square[5:20, 5:20].mean() - half[5:20, 5:20].mean())) < 3


def call(module: str, name: str) -> Any:
    """A function without types, as a program that makes mistakes has it; a command's module may hide its short name."""
    return getattr(import_module(f"ofa_tvm.api.{module}"), name)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (
            lambda: call("subnets", "sample")("mbv3", 3),
            "argument space: Input should be an instance of SearchSpace, not 'mbv3'",
        ),
        (lambda: call("subnets", "sample")(load_space("mbv3"), -1), "sample: argument n"),
        (lambda: call("loading", "load_space")("mbv3", classes=1), "argument classes"),
        (lambda: call("loading", "load_target")("x86", threads=0), "argument threads"),
        (lambda: call("subnets", "describe")(load_space("mbv3"), "r28.3x2-3x2.3x2-3x2.3x2-3x2"), "not in space mbv3"),
        (
            lambda: call("subnets", "describe")(load_space("mbv3"), sample(load_space("mbv3-cifar"), 1)[0]),
            "not in space mbv3",
        ),
        (lambda: call("searching", "search")(load_supernet(), load_target(), "soon"), "argument max_latency_ms"),
        (lambda: call("searching", "search")(load_supernet(), "x86", 0.2), "argument target"),
        (lambda: call("tuning", "tune")(load_space("mbv3"), load_target(), minutes=-1), "argument minutes"),
        (lambda: call("searching", "deploy")("no-such-folder", 1, "out"), "no-such-folder does not exist"),
    ],
)
def test_what_does_not_fit_is_named(mistake, said):
    with pytest.raises(UserError, match=re.escape(said)):
        mistake()
