"""A search through the command, on a device that answers by formula and a supernet of random weights."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from formula_device import FormulaDevice, kernel_ms, tuned_log

import ofa_tvm.search as search_command
from ofa_tvm import data, report
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement import pack_rounds
from ofa_tvm.measurement.latency_bench import LatencyBench
from ofa_tvm.measurement.pack_rounds import Exported, PackRound
from ofa_tvm.nas.result import SearchResult, load_search_result
from ofa_tvm.nas.target_search import TargetSearch
from ofa_tvm.spaces import SPACES, SubnetConfig
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, sha256_file
from ofa_tvm.support.ledger import Ledger, estimated
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.trial import TrialResult
from ofa_tvm.tuner.tuned_space import TunedSpace

needs_int8 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")


@pytest.fixture
def facts(tiny_space, tiny_dataset) -> SupernetFacts:
    """Of a supernet of the tiny space, trained with a preprocessing of its own."""
    own = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    return SupernetFacts(tiny_space.name, tiny_dataset.name, tiny_dataset.class_names, own)


@pytest.fixture
def run(tiny_space, tiny_dataset, facts, tmp_path, monkeypatch):
    """Run the command on a tuned target and a supernet in ``tmp_path``."""
    monkeypatch.setitem(SPACES, tiny_space.name, tiny_space)
    monkeypatch.setitem(data.SOURCES, tiny_dataset.name, lambda path, progress: tiny_dataset)
    monkeypatch.setattr("ofa_tvm.devices.local.device.LocalDevice", lambda target: FormulaDevice(1.0, 0.0))
    torch.manual_seed(3)
    save_supernet(tmp_path / "supernet.safetensors", Supernet(tiny_space), facts)
    mine = tmp_path / "mine.toml"
    mine.write_text((shipped_folder("targets") / "x86.toml").read_text())
    tuned_log(tmp_path / "logs", tiny_space, str(mine))

    def searched(*options) -> int:
        places = ["--supernet", str(tmp_path), "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "out")]
        quick = ["--target", str(mine), "--samples", "20", "--evaluations", "200"]
        return search_command.main([*places, *quick, *options])

    return searched


@pytest.fixture
def quick(monkeypatch) -> None:
    """Accuracies by formula, and models whose quality nobody asks for."""

    def answers(self, supernet, config):
        return np.arange(self.count) < self.count * min(0.9, supernet.space.network(config).macs / 1e6)

    monkeypatch.setattr(Evaluator, "answers", answers)
    monkeypatch.setattr(LatencyBench, "fit_and_save", lambda self: {"mape": 0.01, "samples": 25})


def test_a_dry_run_says_what_a_search_would_cost_and_leaves_nothing(run, quick, tiny_dataset, tmp_path, capsys) -> None:
    log = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    assert run("--max-latency-ms", "100", "--dry-run", "--json") == 0
    (expected,) = json.loads(capsys.readouterr().out)["expected"]
    assert (expected["known"], expected["picks"], expected["learnt"]) == (0, 1, 60)
    assert expected["cost"]["energy_low_kwh"] < expected["cost"]["energy_kwh"] < expected["cost"]["energy_high_kwh"]
    assert run("--dry-run") == 0
    said = capsys.readouterr().out
    assert re.search(
        r"mine, float32: (\d+) of \1 kernels tuned, 0 subnets known; a search would measure at most \d+", said
    )
    assert "(60 for the accuracy predictor to learn from)" in said
    assert re.search(r"about (\d+ s|\d+:\d\d), [\d.]+ mWh \([\d.]+-[\d.]+\)", said)
    assert {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()} == log
    assert not (tmp_path / "out").exists()
    assert run("--max-latency-ms", "100") == 0
    result = load_search_result(tmp_path / "out")
    measured = {subnet for one in result.rounds for subnet in one.finalists}
    assert len(measured) <= expected["finalists"]
    evaluated = len((tmp_path / "accuracy.jsonl").read_text().splitlines())
    assert 60 < evaluated <= expected["evaluations"]
    assert "rating the models" in capsys.readouterr().err
    assert run("--max-latency-ms", "100", "--dry-run", "--json") == 0
    (again,) = json.loads(capsys.readouterr().out)["expected"]
    assert (again["learnt"], again["evaluations"]) == (0, again["finalists"])
    assert again["images"] == tiny_dataset.held_out


def test_one_budget_that_cannot_be_met_leaves_the_others(run, tmp_path, capsys) -> None:
    Ledger(tmp_path / "out" / "ledger.jsonl").add(estimated("measure subnets", 1e4, 1.0))
    start = time.monotonic()
    assert run("--max-latency-ms", "0.0001", "--max-latency-ms", "100", "--json") == 3
    took_s = time.monotonic() - start
    printed, errors = capsys.readouterr()
    assert "1 of 2 budgets cannot be met" in errors
    payload = json.loads(printed)
    assert payload["error"]["code"] == 3
    assert payload["error"]["reason"] == "1 of 2 budgets cannot be met"
    assert [pick["budget_ms"] for pick in payload["picks"]] == [100.0]
    interrupted, *own = payload["cost"]
    assert (interrupted["phase"], interrupted["wall_s"]) == ("other attempt: measure subnets", 1e4)
    phases = [cost["phase"] for cost in own]
    assert len(phases) == len(set(phases))
    assert sum(cost["wall_s"] for cost in own) <= took_s
    result = load_search_result(tmp_path / "out")
    assert result.budgets_ms == (0.0001, 100.0)
    assert [pick.budget_ms for pick in result.picks] == [100.0]
    (unmet,) = result.infeasible
    assert unmet.budget_ms == 0.0001
    assert unmet.nearest_ms > 0
    assert f"the nearest is {unmet.nearest_ms:.4g} ms ({unmet.nearest_subnet})" in errors
    assert result.target_source == str(tmp_path / "mine.toml")
    assert result.target == "mine"
    assert result.supernet_sha256 == sha256_file(tmp_path / "supernet.safetensors")
    assert "--max-latency-ms 0.0001 --max-latency-ms 100" in result.command
    _keeps_what_a_report_shows(result)
    assert result.front_rounds == len(result.rounds) > 0
    assert report.main(["--from", str(tmp_path / "out")]) == 0


def _keeps_what_a_report_shows(result: SearchResult) -> None:
    for pick in result.picks:
        assert sum(block.macs for block in pick.blocks) == pick.macs
        assert sum(layer.time_ms for layer in pick.layers) == pytest.approx(pick.verified_ms)
        assert all(layer.kernel_ms for layer in pick.layers)
    verified = [one for entry in result.rounds for one in entry.verified]
    assert {one.subnet for one in verified} == {key for entry in result.rounds for key in entry.finalists}
    assert result.tuning is not None
    assert result.tuning.kernels


@needs_int8
def test_each_budget_gets_the_better_precision(run, quick, tiny_space, tmp_path, monkeypatch, capsys) -> None:
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "mine.toml"), "int8")
    said = []

    def device(target):
        made = FormulaDevice(0.01 if target.dtype == "int8" else 1.0, 0.0)
        for what in ("start", "close"):
            monkeypatch.setattr(made, what, lambda what=what: said.append(f"{what} {target.dtype}"))
        return made

    monkeypatch.setattr("ofa_tvm.devices.local.device.LocalDevice", device)
    assert run("--max-latency-ms", "0.001", "--max-latency-ms", "100", "--dtype", "auto") == 0
    assert said[:3] == ["start float32", "close float32", "start int8"], "a board is given back for the next precision"
    told = capsys.readouterr()
    assert "precision" in told.out
    assert ("bfloat16 is left out: none of its kernels is tuned" in told.err) == ("avx512_bf16" in cpu_flags())
    result = load_search_result(tmp_path / "out")
    assert [(pick.number, pick.budget_ms) for pick in result.picks] == [(1, 0.001), (2, 100.0)]
    assert result.picks[0].dtype == "int8"  # float32 takes a hundred times as long
    assert set(result.fingerprints) == {"float32", "int8"}
    assert result.dtype is None
    assert {load_search_result(tmp_path / "out" / name).dtype for name in ("float32", "int8")} == {"float32", "int8"}
    assert all("int8: " in cost.phase or "float32: " in cost.phase for cost in result.cost)


@pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this machine lacks AVX512_BF16")
def test_precisions_are_those_that_are_tuned(run, tiny_space, tmp_path, capsys) -> None:
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "mine.toml"), "bfloat16")
    assert run("--dtype", "auto", "--dry-run", "--json") == 0
    told = capsys.readouterr()
    assert [one["dtype"] for one in json.loads(told.out)["expected"]] == ["float32", "bfloat16"]
    assert "int8 is left out: none of its kernels is tuned; run 'python -m ofa_tvm.tune" in told.err


@needs_int8
def test_no_precision_meets_the_budget(run, quick, tiny_space, tmp_path, capsys) -> None:
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "mine.toml"), "int8")
    assert run("--max-latency-ms", "1e-9", "--dtype", "auto") == 4
    assert run("--target", "arm", "--dtype", "auto") == 2
    assert "one target" in capsys.readouterr().err
    assert run("--device", "pack", "--dtype", "auto") == 2
    assert "search each precision alone" in capsys.readouterr().err


def test_on_a_disturbed_machine_a_budget_is_unsure_and_the_search_ends_with_3(
    run, quick, tmp_path, monkeypatch, capsys
) -> None:
    class DisturbedLater(FormulaDevice):
        def time_subnet(self, space, classes, subnet):
            self.calibration_ms = 0.05 if len(self.measured) < 20 else 0.1
            return super().time_subnet(space, classes, subnet)

    monkeypatch.setattr("ofa_tvm.devices.local.device.LocalDevice", lambda target: DisturbedLater(1.0, 0.0))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert run("--max-latency-ms", "100") == 3
    said = capsys.readouterr()
    assert "unsure" in said.out
    assert "too much to say whether a budget is held: 100 ms on mine" in said.err
    (pick,) = load_search_result(tmp_path / "out").picks
    assert pick.held is None
    assert pick.timing is not None
    assert not pick.timing.is_sound


def test_other_percentiles_and_load_are_told(run, quick, tmp_path, capsys) -> None:
    assert run("--max-latency-ms", "100", "--percentile", "99", "--load", "2") == 0
    assert "latencies are the p99 of single calls beside 2 other busy processes" in capsys.readouterr().out
    result = load_search_result(tmp_path / "out")
    assert (result.percentile, result.busy_cores) == (99, 2)
    (pick,) = result.picks
    assert pick.timing is not None
    assert pick.timing.busy_cores == 2
    assert pick.measured_ms == pick.timing.told_ms(99) > pick.timing.told_ms(50)
    assert pick.held is True


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--percentile", "95"), "choose one of 50, 90, 99"),
        (("--load", "1", "--device", "pack"), "--percentile and --load are for what this machine measures"),
        (
            (
                "--load",
                "-1",
            ),
            "--load",
        ),
    ],
)
def test_percentiles_and_loads_that_nobody_measures_are_refused(run, capsys, options, problem) -> None:
    assert run("--max-latency-ms", "100", *options) == 2
    assert problem in capsys.readouterr().err


def test_no_budget_that_can_be_met_ends_with_4(run, quick, tmp_path, capsys) -> None:
    (tmp_path / "out").mkdir()
    earlier = json.dumps({"schema_version": 1, "space": "tiny", "target": "mine", "picks": []})
    (tmp_path / "out" / "result.json").write_text(earlier)
    assert run("--max-latency-ms", "0.0001", "--max-latency-ms", "0.0002") == 4
    errors = capsys.readouterr().err
    assert "within 0.0001 ms" in errors
    assert "within 0.0002 ms" in errors
    assert "the nearest is" in errors
    assert not (tmp_path / "out" / "result.json").exists(), "nobody takes it for this one's"
    assert (tmp_path / "out" / "earlier-result.json").read_text() == earlier


def test_images_of_other_classes_are_refused(run, tiny_dataset, monkeypatch, capsys) -> None:
    other = replace(tiny_dataset, class_names=("a", "b", "c", "d"))
    monkeypatch.setitem(data.SOURCES, "other", lambda path, progress: other)
    assert run("--data", "other") == 2
    assert "other classes" in capsys.readouterr().err


def test_images_that_changed_since_the_training_are_refused(run, tiny_space, tiny_dataset, facts, tmp_path, capsys):
    trained = replace(facts, training={"data": replace(tiny_dataset, held_out=31).digest})
    save_supernet(tmp_path / "supernet.safetensors", Supernet(tiny_space), trained)
    assert run("--max-latency-ms", "100") == 2
    assert f"the images of {tiny_dataset.name} have changed since {tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "accuracy.jsonl").exists()


@pytest.mark.parametrize(
    ("trained_on", "hint"),
    [
        ("imagefolder:/tmp/x", "give the images of imagefolder:/tmp/x: --data imagefolder:PATH"),
        ("imagenet", "give the images of imagenet: --data imagefolder:PATH"),
        ("cifar10", "give the images of cifar10: --data cifar10:PATH"),
    ],
)
def test_the_hint_at_other_images_can_be_followed(facts, tiny_dataset, monkeypatch, trained_on, hint) -> None:
    monkeypatch.setitem(data.SOURCES, "other", lambda path, progress: replace(tiny_dataset, class_names=("a", "b")))
    with pytest.raises(UserError, match="other classes than mine was trained on") as caught:
        supernet_images("other", replace(facts, data=trained_on), Path("mine"), print)
    assert caught.value.hint == hint


def test_images_are_preprocessed_as_the_supernet_was_trained(run, quick, facts, tmp_path, monkeypatch) -> None:
    seen = []
    right = Evaluator.top1

    def watched(self, supernet, config) -> float:
        seen.append(self._preprocess)
        return right(self, supernet, config)

    monkeypatch.setattr(Evaluator, "top1", watched)
    assert run("--max-latency-ms", "100") == 0
    assert set(seen) == {facts.preprocess}
    assert supernet_images(None, facts, tmp_path, print).preprocess == facts.preprocess
    with pytest.raises(UserError, match="unknown data set"):
        supernet_images("mnist", facts, tmp_path, print)


def tuned_elsewhere(tmp_path, tiny_space, name="mine", device="pack") -> TunedSpace:
    """The space on a target that is not measured here, all of whose kernels are tuned."""
    target = load_target(str(tmp_path / f"{name}.toml"), device=device)
    log = TuningLog(target, tmp_path / "logs")
    with log.exclusive():
        for key, kernel in [] if log.kernels else fused_kernels(tiny_space).items():
            result = TrialResult("ok", (kernel_ms(kernel),), is_checked=True)
            log.commit(key, [(Candidate(key, "default", {}), result)])
    return TunedSpace(tiny_space, target, log)


def measured_elsewhere(tmp_path, subnets, tiny_space, name="mine") -> TunedSpace:
    """Append what a pack's import would, for subnets of the target that is measured elsewhere."""
    tuned = tuned_elsewhere(tmp_path, tiny_space, name)
    LatencyBench(tuned, FormulaDevice(1.0, 0.0)).measure(subnets)
    return tuned


def test_finalists_wait_for_a_device_elsewhere_and_are_picked_once_they_are_measured(
    run, quick, tiny_space, tmp_path, capsys
) -> None:
    drawn = tiny_space.sample_configs(np.random.default_rng(0), 25)
    measured_elsewhere(tmp_path, drawn, tiny_space)
    device, classes = FormulaDevice(1.0, 0.0), tiny_space.classes
    fastest = min(device.time_subnet(tiny_space.name, classes, one.key).times_ms[0] for one in drawn)
    budget = ("--device", "pack", "--max-latency-ms", str(0.99 * fastest))
    assert run(*budget) == 3
    said = capsys.readouterr()
    assert f"--export-pack FOLDER --subnets-of {tmp_path / 'out'}" in said.out
    assert f"--logs {tmp_path / 'logs'} --space tiny" in said.out
    assert "1 of 1 budgets are held by no subnet that was measured" in said.err
    first = load_search_result(tmp_path / "out")
    assert first.picks == ()
    assert first.unmeasured
    assert not set(first.unmeasured) & {config.key for config in drawn}

    measured_elsewhere(tmp_path, [SubnetConfig.parse(key) for key in first.unmeasured], tiny_space)
    assert run(*budget) == 0
    (pick,) = load_search_result(tmp_path / "out").picks
    assert pick.subnet in first.unmeasured
    assert pick.held
    assert pick.measured_ms is not None
    assert pick.measured_ms <= 0.99 * fastest


def test_the_front_of_what_was_measured_elsewhere(run, quick, tiny_space, tmp_path) -> None:
    drawn = tiny_space.sample_configs(np.random.default_rng(0), 25)
    measured_elsewhere(tmp_path, drawn, tiny_space)
    assert run("--device", "pack") == 0
    result = load_search_result(tmp_path / "out")
    assert {pick.subnet for pick in result.picks} <= {config.key for config in drawn}
    assert all(pick.measured_ms for pick in result.picks)


def test_a_search_packs_what_it_wants_to_have_measured(run, quick, tiny_space, tmp_path, monkeypatch, capsys) -> None:
    """What is packed is asked for; packing needs spaces that the compiler's processes know, see test_pack."""
    measured_elsewhere(tmp_path, tiny_space.sample_configs(np.random.default_rng(0), 25), tiny_space)
    packed = []

    def run_packs(order, import_from, export_to):
        packed.append((order, import_from, export_to))
        return PackRound("log", exported=Exported(str(export_to), 1, 0, 1, 1, 0))

    monkeypatch.setattr(pack_rounds, "run_packs", run_packs)
    pack = tmp_path / "pack"
    assert run("--max-latency-ms", "100", "--export-pack", str(pack)) == 0
    wanted = load_search_result(tmp_path / "out").unmeasured
    ((order, import_from, export_to),) = packed
    assert wanted
    assert [config.key for config in order.subnets] == list(wanted)
    assert (import_from, export_to, order.samples, order.budget.trials) == (None, pack, 0, 0)
    assert f"--import-pack {pack}" in capsys.readouterr().out


def test_a_device_elsewhere_that_measured_nothing_says_what_to_do(run, tiny_space, tmp_path, capsys) -> None:
    measured_elsewhere(tmp_path, [], tiny_space)
    for more in ((), ("--dry-run",)):
        assert run("--device", "pack", *more) == 2
        said = capsys.readouterr().err
        assert "packs measured 0 subnets of tiny on mine with today's schedules, a latency model needs 20" in said
        assert re.search(r"ofa_tvm.tune .*--space tiny .*--samples 40 .*--export-pack FOLDER'", said)


def test_a_folder_of_other_things_is_refused_and_stays_as_it_was(run, tmp_path, capsys) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert run("--max-latency-ms", "100") == 2
    assert "holds something else: mine.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_input_sizes_that_were_not_trained_are_refused(run, facts, tiny_space, tmp_path, capsys) -> None:
    small = replace(facts, training={"plan": {"resolutions": [12]}})
    save_supernet(tmp_path / "supernet.safetensors", Supernet(tiny_space), small)
    assert run("--resolution", "16", "--dry-run") == 2
    assert f"{tmp_path} was not trained at input size 16, only at 12" in capsys.readouterr().err
    assert run("--resolution", "12", "--dry-run") == 0


def test_a_dry_run_refuses_what_a_search_would_refuse_later(run, tmp_path, capsys) -> None:
    for name in ("red", "green"):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
    assert run("--dry-run", "--data", f"imagefolder:{tmp_path / 'images'}") == 2
    assert f"has other classes than {tmp_path} was trained on: it has 2 of 4" in capsys.readouterr().err
    (other := tmp_path / "accuracy-there.jsonl").write_text(
        '{"subnet": "r12.1x1", "validation_top1": 0.5, "checkpoint": "0123456789abcdef"}\n'
    )
    assert run("--dry-run", "--accuracies", str(other)) == 2
    assert f"{other} tells nothing of the supernet" in capsys.readouterr().err
    (tmp_path / "accuracy.jsonl").write_text("{}\n{}\n")
    assert run("--dry-run") == 2
    assert f"{tmp_path / 'accuracy.jsonl'}, line 1, is damaged" in capsys.readouterr().err


@pytest.fixture
def far(tmp_path, run, quick, tiny_space) -> Callable[..., TunedSpace]:
    """Another target, of which packs have brought so many latencies."""
    (tmp_path / "far.toml").write_text((tmp_path / "mine.toml").read_text())

    def measured(count: int = 25) -> TunedSpace:
        drawn = tiny_space.sample_configs(np.random.default_rng(0), count)
        return measured_elsewhere(tmp_path, drawn, tiny_space, "far")

    return measured


def matrix(folder) -> dict[tuple[str, str], Record]:
    """By target of the picks and target that they run on."""
    entries = json.loads((folder / "regret.json").read_text())["regret"]
    return {(entry["shipped"], entry["on"]): entry for entry in entries}


def test_one_of_several_targets_may_be_measured_elsewhere(run, far, tiny_space, tmp_path, monkeypatch, capsys) -> None:
    far()
    packed = []

    def run_packs(order, import_from, export_to):
        packed.append((order.tuned.target.name, [config.key for config in order.subnets], export_to))
        return PackRound("log", exported=Exported(str(export_to), 1, 0, 1, 1, 0))

    monkeypatch.setattr(pack_rounds, "run_packs", run_packs)
    out, packs = tmp_path / "out", tmp_path / "packs"
    both = ("--target", f"{tmp_path / 'far.toml'}@pack", "--max-latency-ms", "100")
    assert run(*both, "--export-pack", str(packs)) == 0
    said = capsys.readouterr().out
    assert f"--import-pack {packs / 'far'}', and search again" in said
    assert re.search(r"mine +far .* predicted\n", said)
    mine, there = load_search_result(out / "mine"), load_search_result(out / "far")
    assert packed == [("far", list(there.unmeasured), packs / "far")]
    assert {pick.subnet for pick in mine.picks} <= {*there.unmeasured, *(pick.subnet for pick in there.picks)}
    assert (mine.unmeasured, there.device, mine.device) == ((), "pack", None)
    assert all(pick.measured_ms for result in (mine, there) for pick in result.picks)
    found = matrix(out)
    assert len(found) == 4
    assert found["mine", "far"]["predicted"] == 1
    assert {pair: one["predicted"] for pair, one in found.items() if pair != ("mine", "far")} == {
        ("mine", "mine"): 0,
        ("far", "mine"): 0,
        ("far", "far"): 0,
    }
    assert report.main(["--from", str(out)]) == 0
    assert "Finalists that wait for the device of far" in (out / "report.html").read_text()
    capsys.readouterr()

    measured_elsewhere(tmp_path, [SubnetConfig.parse(key) for key in there.unmeasured], tiny_space, "far")
    assert run(*both, "--json") == 0
    said_in_json = json.loads(capsys.readouterr().out)
    assert (set(said_in_json["targets"]), said_in_json["exported"]) == ({"mine", "far"}, {})
    assert {entry["predicted"] for entry in matrix(out).values()} == {0}
    done = load_search_result(out / "mine")
    assert (done.picks, done.unfinished) == (mine.picks, "")


def test_targets_that_have_no_picks_yet_are_compared_with_none(run, far, tiny_space, tmp_path, capsys) -> None:
    far()
    device = FormulaDevice(1.0, 0.0)
    drawn = tiny_space.sample_configs(np.random.default_rng(0), 25)
    fastest = min(device.time_subnet(tiny_space.name, tiny_space.classes, one.key).times_ms[0] for one in drawn)
    options = ("--target", f"{tmp_path / 'far.toml'}@pack", "--max-latency-ms", str(0.99 * fastest))
    assert run(*options) == 3
    said = capsys.readouterr()
    assert "nothing is compared with far, which has no picks yet" in said.out
    assert f"--subnets-of {tmp_path / 'out' / 'far'}; run it there" in said.err
    assert set(matrix(tmp_path / "out")) == {("mine", "mine")}
    (pick,) = load_search_result(tmp_path / "out" / "mine").picks
    assert pick.subnet in load_search_result(tmp_path / "out" / "far").unmeasured


def test_a_target_on_which_nothing_is_found_leaves_the_others(run, quick, tiny_space, tmp_path, monkeypatch, capsys):
    (tmp_path / "far.toml").write_text((tmp_path / "mine.toml").read_text())
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "far.toml"))
    factors = {"mine": 1.0, "far": 1e6}
    monkeypatch.setattr(
        "ofa_tvm.devices.local.device.LocalDevice", lambda target: FormulaDevice(factors[target.name], 0.0)
    )
    both, out = ("--target", str(tmp_path / "far.toml")), tmp_path / "out"
    assert run(*both, "--max-latency-ms", "100", "--json") == 3
    printed, errors = capsys.readouterr()
    payload = json.loads(printed)
    assert (set(payload["targets"]), set(payload["infeasible"])) == ({"mine"}, {"far"})
    assert payload["infeasible"]["far"]["nearest"]["value"] > 100
    assert payload["error"]["code"] == 3
    assert "error: far: no subnet" in errors
    assert "far: the nearest is" in errors
    (pick,) = load_search_result(out / "mine").picks
    assert pick.held
    assert not (out / "far" / "result.json").exists()
    assert report.main(["--from", str(out)]) == 0
    capsys.readouterr()
    assert run(*both, "--max-latency-ms", "1e-6") == 4
    said = capsys.readouterr().err
    assert "mine: no subnet" in said
    assert "; far: no subnet" in said
    assert not (out / "mine" / "result.json").exists(), "what an earlier search found is not this one's"
    assert (out / "mine" / "earlier-result.json").exists()


def test_a_search_of_other_targets_sets_the_earlier_one_aside(run, quick, tiny_space, tmp_path, capsys) -> None:
    (tmp_path / "far.toml").write_text((tmp_path / "mine.toml").read_text())
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "far.toml"))
    out, budget = tmp_path / "out", ("--max-latency-ms", "100")

    def files() -> set[str]:
        return {str(path.relative_to(out)) for path in out.rglob("*.json")}

    assert run(*budget) == 0
    assert run(*budget, "--target", str(tmp_path / "far.toml")) == 0
    assert f"{out / 'result.json'} is of an earlier search" in capsys.readouterr().err
    assert files() == {"earlier-result.json", "regret.json", "mine/result.json", "far/result.json"}
    assert run(*budget) == 0
    aside = {"earlier-result.json", "earlier-regret.json", "mine/earlier-result.json", "far/earlier-result.json"}
    assert files() == {"result.json", *aside}


def test_a_recording_may_answer_for_one_of_several_targets(run, far, tiny_space, tmp_path) -> None:
    recording = far(40).log.folder
    replay = f"replay:{recording}"
    tuned_elsewhere(tmp_path, tiny_space, "far", replay)
    assert run("--target", f"{tmp_path / 'far.toml'}@{replay}", "--max-latency-ms", "100") == 0
    there = load_search_result(tmp_path / "out" / "far")
    assert (there.provenance, there.device) == ("replayed", replay)
    found = matrix(tmp_path / "out")
    assert {found[pair]["provenance"] for pair in found if pair[1] == "far"} == {"replayed"}
    assert {found[pair]["provenance"] for pair in found if pair[1] == "mine"} == {"measured"}


def test_where_too_little_was_measured_elsewhere_nothing_is_measured_here(run, far, tmp_path, monkeypatch, capsys):
    far(10)
    device = FormulaDevice(1.0, 0.0)
    monkeypatch.setattr("ofa_tvm.devices.local.device.LocalDevice", lambda target: device)
    assert run("--target", f"{tmp_path / 'far.toml'}@pack", "--max-latency-ms", "100") == 2
    assert "packs measured 10 subnets of tiny on far" in capsys.readouterr().err
    assert not device.measured


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--device", "pack"), "name each one's device: --target NAME@DEVICE"),
        (("--dtype", "auto"), "--device and --dtype auto are for one target"),
        (("--export-pack", "packs"), "needs no pack"),
        (("--percentile", "99", "--target", "x86@pack"), "--percentile and --load are for what this machine measures"),
        (("--target", "far.toml@pack"), "two targets are called far"),
    ],
)
def test_several_targets_of_which_one_cannot_be_are_refused(run, far, tmp_path, monkeypatch, capsys, options, problem):
    monkeypatch.chdir(tmp_path)
    assert run("--target", "far.toml", "--max-latency-ms", "100", *options) == 2
    assert problem in capsys.readouterr().err


def test_an_interrupted_search_goes_on_with_the_targets_that_are_left(run, far, tiny_space, tmp_path, monkeypatch):
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "far.toml"))
    both = ("--target", str(tmp_path / "far.toml"), "--max-latency-ms", "100")
    searched, right = [], TargetSearch.search

    def search(self, accuracy, budgets):
        searched.append(self.target.name)
        if searched == ["mine", "far"]:
            raise KeyboardInterrupt
        right(self, accuracy, budgets)

    monkeypatch.setattr(TargetSearch, "search", search)
    assert run(*both) == 130
    left = load_search_result(tmp_path / "out" / "mine")
    assert left.unfinished
    assert run(*both) == 0
    assert searched == ["mine", "far", "far"]
    kept = load_search_result(tmp_path / "out" / "mine")
    assert (kept.picks, kept.created_at, kept.cost) == (left.picks, left.created_at, left.cost)
    assert not kept.unfinished
    assert len(matrix(tmp_path / "out")) == 4


def test_of_an_interrupted_search_only_the_same_goes_on(run, far, tiny_space, tmp_path, monkeypatch):
    tuned_log(tmp_path / "logs", tiny_space, str(tmp_path / "far.toml"))
    searched, right = [], TargetSearch.search

    def search(self, accuracy, budgets):
        searched.append(self.target.name)
        if self.target.name == "far":
            raise KeyboardInterrupt
        right(self, accuracy, budgets)

    monkeypatch.setattr(TargetSearch, "search", search)
    for budget in ("100", "200"):
        assert run("--target", str(tmp_path / "far.toml"), "--max-latency-ms", budget) == 130
    assert searched == ["mine", "far"] * 2


def test_energy_of_a_gpu_elsewhere_that_was_never_metered_says_what_to_do(run, quick, tmp_path, tiny_space, capsys):
    (tmp_path / "gpu.toml").write_text((shipped_folder("targets") / "cuda-sm90.toml").read_text())
    gpu = load_target(str(tmp_path / "gpu.toml"))
    tuned = TunedSpace(tiny_space, gpu, TuningLog(gpu, tmp_path / "logs"))
    for key, kernel in tuned.kernels().items():
        result = TrialResult("ok", (kernel_ms(kernel),), is_checked=True)
        tuned.log.commit(key, [(Candidate(key, "default", {}), result)])
    LatencyBench(tuned, FormulaDevice(1.0, 0.0)).measure(tiny_space.sample_configs(np.random.default_rng(0), 25))
    options = ("--target", str(tmp_path / "gpu.toml"), "--max-latency-ms", "100")
    assert run(*options, "--max-energy-mj", "100") == 2
    said = capsys.readouterr().err
    assert "what calls on gpu draw is not known" in said
    assert f"python -m ofa_tvm.tune --target {tmp_path / 'gpu.toml'} --export-pack FOLDER" in said
    assert run(*options, "--max-size-mb", "100", "--max-mmacs", "1000", "--objective", "memory") == 0
