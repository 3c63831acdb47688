"""What a subnet takes and where it goes, from a log whose times follow a formula."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from formula_device import FormulaDevice, kernel_ms, tuned_log

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.cost_model.breakdown import breakdown
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.predict import main
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.tuner.tuned_space import TunedSpace

SPACE = get_space("mbv3-cifar")
DEVICE = FormulaDevice(factor=1.3, constant_ms=0)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    bench = LatencyBench(TunedSpace(SPACE, load_target("x86"), tuned_log(folder, SPACE)), DEVICE)
    bench.measure_samples(30)
    bench.fit_and_save()
    return folder


def predicted(logs, capsys, *options):
    assert main(["--logs", str(logs), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)["subnets"]


def test_a_subnet_with_interval_and_parts_that_add_up(logs, capsys):
    (row,) = predicted(logs, capsys, "--subnet", "largest")
    steps = fused_steps(SPACE.network(SPACE.largest))
    alone_ms = sum(kernel_ms(step.kernel) for step in steps)
    assert row["predicted_ms"] == pytest.approx(1.3 * alone_ms, rel=0.02)
    assert row["predicted_low_ms"] <= row["predicted_ms"] <= row["predicted_high_ms"]
    assert 0.5 < row["predicted_top1"] < 1
    assert [part["kernel"] for part in row["parts"]] == [step.kernel.key for step in steps]
    assert sum(part["predicted_ms"] for part in row["parts"]) == pytest.approx(row["predicted_ms"])
    assert sum(part["kernel_ms"] for part in row["parts"]) == pytest.approx(alone_ms)
    assert all(part["is_tuned"] for part in row["parts"])


def test_parts_without_a_tuned_kernel_are_marked():
    costs = {key: kernel_ms(kernel) for key, kernel in fused_kernels(SPACE).items()}
    steps = codegen_of(load_target("x86")).steps(SPACE.network(SPACE.smallest))
    first = steps[0][1].key
    parts = breakdown(2.0, steps, costs, set(costs) - {first})
    assert [part.is_tuned for part in parts] == [part.kernel != first for part in parts]
    assert sum(part.predicted_ms for part in parts) == pytest.approx(2.0)
    ratios = [part.predicted_ms / part.kernel_ms for part in parts]
    assert min(ratios) == pytest.approx(max(ratios))


def test_architectures_from_a_file_a_folder_and_standard_input(logs, capsys, tmp_path, monkeypatch):
    configs = SPACE.sample_configs(np.random.default_rng(0), 4)
    (tmp_path / "a.json").write_text(json.dumps(SPACE.to_ofa(configs[0])))
    (tmp_path / "b.json").write_text(json.dumps([{"subnet": configs[1].key}, configs[2].key]))
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"subnet": configs[3].key})))
    rows = predicted(logs, capsys, "--arch", str(tmp_path), "--arch", "-")
    assert [row["subnet"] for row in rows] == [config.key for config in configs]


@pytest.mark.parametrize("text", ["{", "[]x", "3", '{"ks": [1]}', '{"subnet": "r1.3x3"}', "[null]"])
def test_a_bad_architecture_names_its_file(logs, capsys, tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert main(["--logs", str(logs), "--arch", str(path)]) == 2
    assert f"{path} is not an architecture" in capsys.readouterr().err


def test_a_model_of_earlier_kernel_times_names_the_command_that_fits_it_again(logs, capsys, tmp_path):
    shutil.copytree(logs, later := tmp_path / "logs")
    (path,) = later.rglob("kernels.jsonl")
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "best_ms": 1.0}), *rest, ""]))
    assert main(["--logs", str(later), "--subnet", "largest"]) == 2
    said = capsys.readouterr().err
    assert "was fitted on other kernel times than the present ones\n" in said
    assert re.search(rf"'python -m ofa_tvm\.tune --target x86 --space {SPACE.name} --samples \d+ --logs {later}'", said)


def test_a_supernet_names_the_space(logs, capsys):
    same = [predicted(logs, capsys, "--subnet", "largest", *more) for more in ([], ["--supernet", "mbv3-cifar"])]
    assert same[0] == same[1]
    options = ["--logs", str(logs), "--subnet", "largest"]
    assert main([*options, "--supernet", "mbv3-cifar-large", "--space", "mbv3-cifar"]) == 2
    assert "is of space mbv3-cifar-large, not mbv3-cifar" in capsys.readouterr().err
    assert main([*options, "--supernet", "mbv3-cifr"]) == 2
    assert "mbv3-cifar and mbv3-cifar-large ship" in capsys.readouterr().err


def test_input_sizes_that_were_not_trained(logs, capsys, monkeypatch):
    monkeypatch.setattr(SupernetFacts, "resolutions", (24,))
    options = ["--supernet", "mbv3-cifar", "--random", "20"]
    assert {row["subnet"][:4] for row in predicted(logs, capsys, *options)} == {"r24."}
    assert main(["--logs", str(logs), "--json", *options, "--subnet", "largest"]) == 0
    printed, said = capsys.readouterr()
    assert "beware: the supernet was not trained at input size 32, only at 24" in said
    top1 = [row["predicted_top1"] for row in json.loads(printed)["subnets"]]
    assert top1[0] is None and all(top1[1:]), "what a predictor says beyond what was trained is nothing"


def test_nothing_named_missing_files_and_empty_folders_are_bad_input(logs, capsys, tmp_path):
    assert main(["--logs", str(logs)]) == 2
    assert "--arch" in capsys.readouterr().err
    assert main(["--logs", str(logs), "--arch", str(tmp_path / "none.json")]) == 2
    assert main(["--logs", str(logs), "--arch", str(tmp_path)]) == 2


def test_many_subnets_come_without_layers_and_as_a_table(logs, capsys, tmp_path):
    rows = predicted(logs, capsys, "--random", "30", "--subnet", "largest", "--seed", "4")
    assert len(rows) == 31 and not any("parts" in row for row in rows)
    assert all("parts" in row for row in predicted(logs, capsys, "--random", "2", "--layers"))
    path = tmp_path / "table.csv"
    options = ["--logs", str(logs), "--random", "30", "--subnet", "largest", "--seed", "4"]
    assert main([*options, "--csv", str(path)]) == 0
    assert "wrote 31 predictions" in capsys.readouterr().out
    with path.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["subnet"], float(row["predicted_ms"])) for row in table] == [
        (row["subnet"], row["predicted_ms"]) for row in rows
    ]
    assert main([*options, "--csv", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_text_shows_where_the_time_goes(logs, capsys):
    assert main(["--logs", str(logs), "--subnet", "smallest"]) == 0
    shown = capsys.readouterr().out
    assert "layers of one call" in shown
    assert "classifier" in shown
