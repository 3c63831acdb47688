"""``--device replay:FOLDER``: a tuning log answers in a device's place, through the commands."""

from __future__ import annotations

import json
import shutil

import pytest

import ofa_tvm.search as search_command
import ofa_tvm.tune as tune_command
from ofa_tvm import compile as compile_command
from ofa_tvm.cost_model.latency_model import LatencyModel
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import latency_table
from ofa_tvm.spaces import get_space
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.tuner.latency_records import read_records
from ofa_tvm.tuner.log import TuningLog, kernel_states, winners
from ofa_tvm.tuner.tuned_space import TunedSpace

ZEN4 = next(shipped_folder("tuning_logs").glob("x86/znver4-1t-*"))
MODELS = sorted(shipped_folder("tuning_logs").glob("*/*/*/cost_model.report.json"))
SPACE = ["--space", "mbv3-cifar", "--resolution", "32"]


def test_a_log_that_ships_answers_as_its_cpu_did(tmp_path, capsys):
    options = ["--device", f"replay:{ZEN4}", "--logs", str(tmp_path), *SPACE, "--trials-per-kernel", "4"]
    assert tune_command.main([*options, "--samples", "25", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["provenance"] == "replayed"
    assert answer["fingerprint"].startswith("znver4-1t-b1-replay-")
    assert answer["cost_model"]["samples"] >= 25

    target = load_target("x86", device=f"replay:{ZEN4}")
    log, recorded = TuningLog(target, tmp_path), winners(ZEN4)
    same = [key for key, schedule in log.winners.items() if recorded[key] == schedule]
    assert len(same) > 0.7 * len(log.winners), "winners of the recording are found again"
    records = read_records(log.folder, "mbv3-cifar")
    assert {record.provenance for record in records} == {"replayed"}
    times = {record.subnet: record.times_ms for record in read_records(ZEN4, "mbv3-cifar")}
    assert all(times[record.subnet] == record.times_ms for record in records)
    assert all(record.subnet.startswith("r32.") for record in records)


@pytest.mark.parametrize("report", MODELS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_models_that_ship_rest_on_the_kernel_times_that_ship(tmp_path, report):
    folder = report.parent.parent
    target = load_target(folder.parent.name, device=f"replay:{folder}")
    log = TuningLog(target, tmp_path)
    log.kernels.update(kernel_states(folder))
    tuned = TunedSpace(get_space(report.parent.name), target, log)
    model = LatencyModel.load(report.parent, latency_table(tuned)[0])
    space = tuned.space
    smallest, largest = model.mean_ms(space.genomes([space.smallest, space.largest]))
    assert 0 < smallest < largest


def test_it_is_the_chip_of_the_recording_with_its_threads():
    target = load_target("x86", device=f"replay:{ZEN4}")
    assert (target.target.mcpu, target.threads, target.device) == ("znver4", 1, "replay")
    assert not target.is_at_hand
    (gpu,) = shipped_folder("targets").glob("cuda-sm90.toml")
    with pytest.raises(UserError, match="was recorded on a CPU, target cuda-sm90 is a GPU"):
        load_target(str(gpu), device=f"replay:{ZEN4}")
    with pytest.raises(UserError, match="was recorded on x86_64, target arm is aarch64"):
        load_target("arm", device=f"replay:{ZEN4}")
    with pytest.raises(UserError, match="recorded with threads 1, not 2"):
        load_target("x86", threads=2, device=f"replay:{ZEN4}")


def changed_copy(folder, name, change):
    """A copy of the recording with a file changed."""
    shutil.copytree(ZEN4, folder, ignore=shutil.ignore_patterns("mbv3*"))
    (folder / name).write_text(change((folder / name).read_text()))
    return folder


def test_another_recording_of_the_same_conditions_is_another_one(tmp_path):
    slow = changed_copy(tmp_path / "slow", "latency.jsonl", lambda text: text.replace("0.1", "0.9"))
    one, other = (load_target("x86", device=f"replay:{folder}").fingerprint for folder in (ZEN4, slow))
    assert one != other


@pytest.mark.parametrize(
    ("name", "found", "put"),
    [
        ("manifest.json", '"threads": 1', '"threads": "x"'),
        ("manifest.json", '"threads": 1', '"threads": -1'),
        ("manifest.json", '"threads": 1', '"threads": true'),
        ("manifest.json", '"batch": 1', '"batch": 0'),
        ("manifest.json", '"dtype": "float32"', '"dtype": "float16"'),
        ("manifest.json", '"dtype": "float32"', '"dtype": "int4"'),
        ("manifest.json", '"mcpu": "znver4"', '"mcpu": "../../x"'),
        ("manifest.json", '"mcpu": "znver4"', '"mcpu": 5'),
        ("manifest.json", '"kernel_set": 2', '"kernel_set": 1'),
        ("manifest.json", "{", "[" * 100_000),
        ("kernels.jsonl", '"best_ms": 0', '"best_ms": -1'),
        ("kernels.jsonl", '"best_ms": 0', '"best_ms": NaN, "unused": 0'),
        ("latency.jsonl", '"times_ms": [', '"times_ms": [0.0, '),
        ("latency.jsonl", '"reference_ms": [', '"reference_ms": ["1", '),
        ("latency.jsonl", '"subnet": "', '"subnet": 5, "was": "'),
    ],
)
def test_damaged_recordings_are_bad_input(tmp_path, capsys, name, found, put):
    folder = changed_copy(tmp_path / "copy", name, lambda text: text.replace(found, put))
    code = tune_command.main(
        ["--device", f"replay:{folder}", "--logs", str(tmp_path / "logs"), *SPACE, "--trials", "3"]
    )
    assert code == 2
    assert str(folder) in capsys.readouterr().err
    assert not list((tmp_path / "logs").glob("*/*/trials.jsonl"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"conditions": {"target": 1}}', '{"conditions": null}'])
def test_what_is_no_recording_is_refused(tmp_path, text, capsys):
    (tmp_path / "manifest.json").write_text(text)
    assert tune_command.main(["--device", f"replay:{tmp_path}", "--logs", str(tmp_path / "logs")]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert tune_command.main(["--device", f"replay:{tmp_path}/none", "--logs", str(tmp_path / "logs")]) == 2
    assert "is not the folder of a tuning log" in capsys.readouterr().err


def test_nothing_runs_on_a_recording(tmp_path, capsys):
    options = ["--device", f"replay:{ZEN4}", "--logs", str(tmp_path)]
    assert compile_command.main([*options, "--subnet", "smallest", "--space", "mbv3-cifar"]) == 2
    assert "answers from a recording: nothing runs there" in capsys.readouterr().err
    assert search_command.main([*options, "--max-latency-ms", "0.1", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no kernel is tuned" in said
    assert f"tune --target x86 --device replay:{ZEN4} --space mbv3-cifar" in said
