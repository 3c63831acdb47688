"""report --ledger: what is added up, what is kept apart, what is left out, and from where on sharing pays."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ofa_tvm import report
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.reporting.break_even import break_even, published
from ofa_tvm.reporting.ledger_folders import read_folders, search_costs, target_of
from ofa_tvm.reporting.offers import all_offers, all_series
from ofa_tvm.reporting.sci import sci_report
from ofa_tvm.reporting.sci_text import sci_text
from ofa_tvm.reporting.source import read_source
from ofa_tvm.support.amounts import Amount
from ofa_tvm.support.carbon import assumptions
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl, write_json
from ofa_tvm.support.ledger import Cost, Ledger, estimated, total
from ofa_tvm.timing.inference import IMAGES

GIVEN = assumptions(g_per_kwh=100.0)
PICK = {
    "number": 1,
    "subnet": "r32.3x1",
    "predicted_ms": 0.45,
    "predicted_low_ms": 0.4,
    "predicted_high_ms": 0.5,
    "measured_ms": 0.5,
    "macs": 12,
    "parameters": 2_000_000,
}
FILES = {"model.so": {"bytes": 3, "sha256": "0"}}


def costs_of(folder, *costs):
    append_jsonl(folder / "ledger.jsonl", [cost.record() for cost in costs])
    return folder


def training(folder, *hours):
    return costs_of(folder, *(estimated(f"train to step {n}", 3600 * h, 3600 * h) for n, h in enumerate(hours)))


def log(folder, *phases, device="local"):
    write_json(folder / "manifest.json", {"schema_version": 1, "conditions": {"device": device}})
    return costs_of(folder, *(estimated(phase, 360.0, 360.0) for phase in phases))


def search(folder, target="x86-1", **changes):
    pick = {**PICK, **changes.pop("pick", {})}
    values = {"schema_version": 1, "space": "tiny", "supernet": "s", "target": "x86", "threads": 2, "batch": 4}
    values |= {"fingerprint": target, "picks": [pick], "conditions": {"target": {"kind": "llvm"}, "device": "local"}}
    write_json(folder / "result.json", {**values, **changes})
    return costs_of(folder, estimated("search and verify", 720.0, 720.0))


def bundle(folder, spent=(), target="x86-1", dtype="float32", **latency):
    parts = {"file": "s", "sha256": "0", "weights_sha256": "1"}
    taken = {"name": "image", "layout": "NHWC", "shape": [1, 16, 16, 3], "dtype": "float32", "resolution": 16}
    facts = {"name": "x86", "fingerprint": target, "attributes": {"kind": "llvm"}, "threads": 1}
    values = {"format": "ofa_tvm.bundle", "schema_version": 1, "ofa_tvm": "0", "created_at": "", "space": "tiny"}
    values |= {
        "subnet": "r32.3x1",
        "supernet": parts,
        "input": taken,
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "class_names": ["cat", "dog"],
        "classes": 2,
    }
    values |= {"macs": 1, "parameters": 4_000_000, "versions": {}, "files": FILES, "dtype": dtype}
    values["accuracy"] = {"data": "", "how": "", "test_images": 0, "compared_images": 0}
    values["latency"] = {"provenance": "measured", "measured_ms": 0.5, "conditions": {}, **latency}
    values["target"] = {**facts, "tuned_kernels": 20, "default_kernels": 5}
    values["cost"] = [cost.record() for cost in (*spent, estimated("deploy: load", 36.0, 36.0))]
    write_json(folder / "manifest.json", values)
    return folder


def stages(found):
    return [(one.stage, round(one.footprint.energy.value, 6)) for one in found.provided]


def test_stages_are_told_apart_and_add_up(tmp_path):
    folders = [search(tmp_path / "s"), training(tmp_path / "t", 1, 2), log(tmp_path / "x86-1", "tune tiny")]
    found = sci_report([*folders, bundle(tmp_path / "b")], GIVEN)
    assert stages(found) == [("train", 18.0), ("tune", 0.6), ("search", 1.2), ("deploy", 0.06)]
    assert found.provider.energy.value == pytest.approx(19.86)
    assert found.provider.operational.value == pytest.approx(1.986)
    assert found.marginal is not None and found.targets == 1
    assert found.marginal.energy.value == pytest.approx(1.86)
    (score,) = found.scores
    assert (score.network.subnet, score.network.parameters) == ("r32.3x1", 4_000_000)
    assert score.emissions.value == pytest.approx(found.provider.emissions.value / 4)


def test_a_folder_counts_once_and_subfolders_are_found(tmp_path):
    training(tmp_path / "runs" / "t", 1)
    search(tmp_path / "runs" / "s")
    folders = [tmp_path / "runs", tmp_path / "runs" / "t", tmp_path / "runs" / "." / "s"]
    assert stages(sci_report(folders, GIVEN)) == [("train", 6.0), ("search", 1.2)]


def test_folds_of_a_training_count(tmp_path):
    training(tmp_path / "t" / "fold-0", 1)
    assert stages(sci_report([training(tmp_path / "t", 1)], GIVEN)) == [("train", 6.0), ("train", 6.0)]


def test_a_bundle_repeats_what_its_search_cost_only_where_that_is_not_given(tmp_path):
    spent = estimated("search and verify", 720.0, 720.0)
    alone = sci_report([bundle(tmp_path / "b", [spent])], GIVEN)
    assert stages(alone) == [("search", 1.2), ("deploy", 0.06)]
    both = sci_report([bundle(tmp_path / "b2", [spent]), search(tmp_path / "s")], GIVEN)
    assert stages(both) == [("search", 1.2), ("deploy", 0.06)]


def in_precisions(folder):
    """A search in two precisions: each has its own ledger, and the common result repeats both."""
    names = {"float32": "znver4-1t-b1-01234567", "int8": "znver4-1t-b1-i8-89abcdef"}
    spent = []
    for minutes, (dtype, fingerprint) in enumerate(names.items(), 1):
        search(folder / dtype, fingerprint, dtype=dtype)
        (folder / dtype / "ledger.jsonl").unlink()
        done = [estimated(phase, 60.0 * minutes, 60.0 * minutes) for phase in ("measure subnets", "search and verify")]
        costs_of(folder / dtype, *(replace(one, ended_at=f"2026-01-01T0{minutes}:0{n}") for n, one in enumerate(done)))
        spent += [replace(cost, phase=f"{dtype}: {cost.phase}") for cost in ledger_of(folder / dtype)]
    picks = [{**PICK, "dtype": "int8"}]
    values = json.loads((folder / "int8" / "result.json").read_text())
    values |= {"dtype": None, "fingerprints": names, "picks": picks, "cost": [cost.record() for cost in spent]}
    write_json(folder / "result.json", values)
    return spent


def ledger_of(folder):
    return Ledger(folder / "ledger.jsonl").costs()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["s"], [0.6]),
        (["s", "b"], [0.6, 0.06]),
        (["b", "s"], [0.6, 0.06]),
        (["s/int8", "b"], [0.6, 0.06]),
        (["s/float32", "s/int8", "b"], [0.6, 0.06]),
        (["b"], [0.6, 0.06]),
    ],
)
def test_a_search_in_several_precisions_counts_once_however_it_is_told(tmp_path, given, expected):
    spent = in_precisions(tmp_path / "s")
    bundle(tmp_path / "b", spent, target="znver4-1t-b1-i8-89abcdef", dtype="int8")
    found = sci_report([tmp_path / name for name in given], GIVEN)
    energies = {stage: 0.0 for stage, _ in stages(found)}
    for stage, energy in stages(found):
        energies[stage] += energy
    assert list(energies.values()) == pytest.approx(expected)
    assert found.targets == 1, "precisions of one target are one target"
    assert [one.network.where for one in found.consumed if one.network.dtype == "int8"] == ["x86, int8"]


def test_another_attempt_in_one_precision_is_a_cost_of_the_search_in_several(tmp_path):
    in_precisions(folder := tmp_path / "s")
    costs_of(folder / "int8", replace(estimated("measure subnets", 60.0, 60.0), ended_at="2026-01-02T00:00"))
    costs = search_costs(folder, load_search_result(folder))
    assert costs[0].phase == "int8: other attempt: measure subnets"
    found = sci_report([folder], GIVEN)
    assert found.provider.energy.value == pytest.approx(total("search", costs).watt_hours.value) == pytest.approx(0.7)


def test_a_copy_of_a_folder_is_the_same_work(tmp_path):
    done = replace(estimated("train", 3600.0, 3600.0), ended_at="2026-01-01T00:00")
    assert stages(sci_report([costs_of(tmp_path / name, done) for name in "ab"], GIVEN)) == [("train", 6.0)]


@pytest.mark.parametrize(
    ("fingerprint", "target"),
    [
        ("znver4-1t-b1-2ac31da4", "znver4-1t-b1"),
        ("znver4-1t-b1-i8-18ef11ad", "znver4-1t-b1"),
        ("sm-90-1t-b16-f16-18ef11ad", "sm-90-1t-b16"),
        ("cortex-a72-4t-b1-i8-rpc-18ef11ad", "cortex-a72-4t-b1-rpc"),
        ("znver4-2t-b1-2ac31da4", "znver4-2t-b1"),
    ],
)
def test_precisions_of_a_target_have_one_name(fingerprint, target):
    assert target_of(fingerprint) == target


def test_a_network_is_one_line_and_its_bundles_own_measurement_counts(tmp_path):
    other = {**PICK, "number": 2, "subnet": "r32.3x2"}
    folder = search(tmp_path / "s", "x86-1", dtype="float32", picks=[PICK, other])
    found = sci_report([folder, bundle(tmp_path / "b", measured_ms=0.25)], GIVEN)
    assert [(one.network.subnet, one.network.where, one.milliseconds) for one in found.consumed] == [
        ("r32.3x1", "x86, float32", 0.25),
        ("r32.3x2", "x86, float32", 0.5),
    ]
    deployed, alone = found.scores
    whole = found.provider.emissions.value
    assert deployed.emissions.value == pytest.approx(whole / 4)
    deploying = next(one for one in found.provided if one.stage == "deploy").footprint.emissions.value
    assert alone.emissions.value == pytest.approx((whole - deploying) / 2), "pays for no other's deployment"
    text = sci_text(found)
    assert "r32.3x1 (x86, float32): " in text
    assert "x86, float32      0.250" in text


def test_the_card_of_a_pick_counts_as_the_table_does_where_its_bundle_is_given(tmp_path):
    folder = search(tmp_path / "s", threads=1, batch=1, dtype="float32")
    made = bundle(tmp_path / "b", measured_ms=0.25)
    (offer,) = all_offers(source := read_source(folder, [made]), all_series(source))
    (one,) = sci_report(source.folders, GIVEN).consumed
    assert offer.inference is not None
    assert offer.inference.cost(IMAGES) == one.cost
    assert one.milliseconds == 0.25


def test_attempts_before_a_searchs_result_are_told_apart(tmp_path):
    folder = search(tmp_path / "s")
    own = replace(estimated("search and verify", 60.0, 60.0), ended_at="2026-01-01T00:00")
    costs_of(folder, own)
    values = {**json.loads((folder / "result.json").read_text()), "cost": [own.record()]}
    write_json(folder / "result.json", values)
    phases = [(cost.phase, cost.wall_s) for cost in search_costs(folder, load_search_result(folder))]
    assert phases == [("other attempt: search and verify", 720.0), ("search and verify", 60.0)]
    assert stages(sci_report([folder], GIVEN)) == [("search", 1.3)]


def test_a_gpu_is_assumed_only_where_one_worked(tmp_path):
    folder = training(tmp_path / "t", 1)
    assert "GPU, " not in sci_text(sci_report([folder], GIVEN))
    costs_of(folder, replace(estimated("train", 1.0, 1.0), method="estimated, GPU metered (NVML, whole GPU)"))
    assert "embodied: a data centre's GPU, " in sci_text(sci_report([folder], GIVEN))


def test_phases_of_other_spaces_in_a_log_are_left_out_and_said(tmp_path):
    tuned = log(tmp_path / "x86-1", "tune tiny", "measure tiny", "tune mbv3", "time winners of tiny again")
    assert stages(sci_report([tuned], GIVEN)) == [("tune", 2.4)]
    found = sci_report([tuned, search(tmp_path / "s")], GIVEN)
    assert stages(found)[0] == ("tune", 1.8)
    assert f"1 phases of other spaces in {tuned}" in found.left_out


@pytest.mark.parametrize("device", ["rpc", "pack"])
def test_a_device_elsewhere_is_said_to_be_left_out(tmp_path, device):
    found = sci_report([log(tmp_path / "arm-1", "tune tiny", device=device)], GIVEN)
    assert any("the device itself" in said for said in found.left_out)


def test_a_gpu_without_a_count_is_said_to_be_left_out(tmp_path):
    uncounted = replace(estimated("train", 1.0, 1.0), method="estimated, GPU not counted")
    found = sci_report([costs_of(tmp_path / "t", uncounted)], GIVEN)
    assert any("its driver's count was not there" in said for said in found.left_out)


def test_the_consumer_is_inference_of_a_million_images(tmp_path):
    (one,) = sci_report([search(tmp_path / "s")], GIVEN).consumed
    assert one.cost.wall_s == pytest.approx(125)
    assert one.footprint.energy.value == pytest.approx(125 * 2 * 6 / 3600)
    assert one.footprint.energy.kinds == ("estimated",)
    (metered,) = sci_report([tmp_path / "s"], GIVEN, watts=3.6).consumed
    assert metered.footprint.energy.value == pytest.approx(0.125)
    assert metered.footprint.energy.kinds == ("metered",)


def test_a_gpus_own_count_is_told_and_a_meter_comes_first(tmp_path):
    gpu = {"conditions": {"target": {"kind": "cuda"}}, "pick": {"energy_mj": 100.0}}
    (one,) = sci_report([search(tmp_path / "s", **gpu)], GIVEN).consumed
    assert one.footprint.energy.kinds == ("metered",)
    assert one.cost.energy_kwh * 3.6e6 == pytest.approx(0.1 * 1e6 / 4)
    (metered,) = sci_report([tmp_path / "s"], GIVEN, watts=3.6).consumed
    assert metered.footprint.energy.value == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pick": {"measured_ms": None}}, "no latency is known"),
        ({"conditions": {"target": {"kind": "cuda"}}}, "a GPU's energy by call was not metered: give --watts"),
        ({"conditions": {"target": {"mtriple": "aarch64-linux-gnu"}}}, "known of x86 servers only: give --watts"),
    ],
)
def test_a_network_of_unknown_energy_is_said(tmp_path, changes, said):
    found = sci_report([search(tmp_path / "s", **changes)], GIVEN)
    assert not found.consumed
    assert any(said in one for one in found.left_out)


def test_an_estimated_latency_stays_one(tmp_path):
    pick = {"measured_ms": None, "estimated_ms": 2.0}
    (one,) = sci_report([search(tmp_path / "s", pick=pick)], GIVEN, watts=3.6).consumed
    assert one.footprint.energy.kinds == ("metered", "estimated")


def test_a_meter_replaces_the_energy_of_what_it_covers(tmp_path):
    phase = replace(estimated("train to step 1", 60.0, 60.0), ended_at="1970-01-01T00:01:40+00:00")
    folder = costs_of(tmp_path / "t", phase, estimated("train to step 2", 60.0, 60.0))
    meter = tmp_path / "meter.csv"
    meter.write_text("time,watts\n30,60\n80,60\n110,60\n")
    (one,) = sci_report([folder], GIVEN, meter=meter).provided
    assert one.footprint.energy.value == pytest.approx(1 + 0.1)
    assert one.footprint.energy.kinds == ("metered", "estimated")
    meter.write_text("time,watts\n30,60\n80,60\n")
    found = sci_report([folder], GIVEN, meter=meter)
    assert any("cover no phase" in said for said in found.left_out)


def test_break_even_is_where_both_ways_cost_the_same():
    def wh(value, low, high):
        return Amount(value, low, high, "Wh", ("metered",))

    found = break_even("training", "targets", wh(30, 20, 40), wh(2, 1, 3), wh(8, 6, 10))
    assert found.at == pytest.approx((5, 20 / 9, 40 / 3))
    assert found.ratios[10] == pytest.approx((80 / 50, 60 / 70, 100 / 30))
    never = break_even("training", "targets", wh(30, 20, 40), wh(9, 1, 10), wh(8, 6, 10))
    assert (never.at[0], never.at[2]) == (math.inf, math.inf)
    assert never.record()["at"] == {"value": None, "low": pytest.approx(20 / 9), "high": None}


def test_nets_trained_alone_come_from_folders_and_result_files(tmp_path):
    rows = [{"cost": estimated("train", 1, 1800 * hours).record()} for hours in (1, 3)]
    write_json(tmp_path / "alone.json", {"rows": rows})
    folders = [training(tmp_path / "t", 10), search(tmp_path / "s")]
    found = sci_report(folders, GIVEN, alone=[tmp_path / "alone.json", training(tmp_path / "one", 2)])
    (one,) = found.break_even
    assert (one.against, one.per) == ("training each net alone", "targets")
    assert one.other.value == pytest.approx((3 + 9 + 12) / 3)
    assert (one.other.low, one.other.high) == pytest.approx((1.5, 24))
    assert one.once.value == pytest.approx(60) and one.each.value == pytest.approx(1.2)
    assert one.at[0] == pytest.approx(60 / (8 - 1.2))
    assert "3 trainings" in one.assumed[0]


def test_nets_tuned_alone_come_from_logs_or_from_the_share_of_kernels(tmp_path):
    tuned = log(tmp_path / "x86-1", "tune tiny")
    found = sci_report([tuned], GIVEN, alone=[log(tmp_path / "alone-1", "tune own")])
    (one,) = found.break_even
    assert (one.against, one.per) == ("tuning each net alone", "nets on a target")
    assert one.at[0] == pytest.approx(1)
    state = {"trials": 1, "best_ms": 1.0, "schedule": {"template": "tile"}}
    append_jsonl(tuned / "kernels.jsonl", [{"kernel": f"k{n}", **state} for n in range(100)])
    costs_of(tuned, estimated("tune mbv3", 1080.0, 1080.0), estimated("measure tiny", 360.0, 360.0))
    found = sci_report([tuned, bundle(tmp_path / "b")], GIVEN)
    (one,) = found.break_even
    assert one.once.value == pytest.approx(0.6 + 0.6)
    assert one.other.value == pytest.approx((0.6 + 1.8) * 25 / 100)
    assert one.each.value == 0
    assert "25 kernels" in one.assumed[0] and "estimated" in one.other.kinds
    assert "we cost less from 2 nets on a target on (0.5 to 8; estimated)" in sci_text(found)
    assert "1: the first already pays" in sci_text(found)


def test_where_sharing_never_pays_that_is_said(tmp_path):
    folders = [training(tmp_path / "t", 10), search(tmp_path / "s")]
    found = sci_report(folders, GIVEN, alone=[training(tmp_path / "one", 0.1)])
    assert "we cost less for no number of targets (" in sci_text(found)


def test_the_published_table_is_compared_with_itself():
    source, rows = published()
    assert "Table 1" in source and "not metered" in source.replace("no energy was metered", "not metered")
    by = {(one.method.split(" (")[0], one.against.split(" ")[0]): one for one in rows}
    plain, tuned = (by[name, "ProxylessNAS"] for name in ("OFA, no fine-tuning", "OFA, 75 epochs of fine-tuning"))
    assert (plain.at, tuned.at) == pytest.approx((1240 / 500, 1240 / 425))
    assert by["OFA, no fine-tuning", "MnasNet"].ratio == pytest.approx(1_600_000 / 1240)


def bad_ledger(folder):
    append_jsonl(folder / "ledger.jsonl", [{**estimated("a", 1, 1).record(), "wall_s": "long"}])
    return folder


def bad_search(folder):
    write_json(folder / "result.json", {"schema_version": 1})
    return folder


def empty(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "does not exist"),
        (empty, "is no folder of"),
        (bad_ledger, "line 1, is damaged: key 'wall_s'"),
        (bad_search, "is damaged: missing key 'space'"),
    ],
)
def test_folders_that_say_nothing_are_named(tmp_path, make, said):
    with pytest.raises(UserError, match=said):
        read_folders([make(tmp_path / "x")])


@pytest.mark.parametrize(
    ("content", "said"), [("{}", "'rows'"), ('{"rows": []}', "are empty"), ('{"rows": [{"cost": 1}]}', "rows.0.cost")]
)
def test_result_files_without_costs_are_named(tmp_path, content, said):
    (tmp_path / "alone.json").write_text(content)
    with pytest.raises(UserError, match=said):
        sci_report([training(tmp_path / "t", 1)], GIVEN, alone=[tmp_path / "alone.json"])


def test_every_figure_in_the_record_and_the_text_has_its_kind(tmp_path):
    found = sci_report(
        [training(tmp_path / "t", 1), search(tmp_path / "s")], GIVEN, alone=[training(tmp_path / "a", 1)]
    )

    def amounts(value):
        if isinstance(value, dict):
            if "low" in value and "unit" in value:
                yield value
            for inner in value.values():
                yield from amounts(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from amounts(inner)

    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert len(list(amounts(record))) > 15
    assert all(one["kinds"] or one["value"] == 0 for one in amounts(record))
    text = sci_text(found)
    for line in text.splitlines():
        if "CO2e per" in line or "one more target" in line or "we cost less" in line:
            assert "estimated" in line, line
    assert "100 g CO2e/kWh (as given; given by --grid)" in text
    assert text.count("CO2e: operational estimated, assumed; embodied published, assumed") == 2
    assert "nothing is offset" in text and "PUE: 1 (assumed" in text


def test_the_command_takes_a_search_or_ledgers(tmp_path, capsys):
    folder = str(training(tmp_path / "t", 1))
    assert report.main(["--ledger", folder, "--region", "sweden", "--pue", "1.5", "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["assumptions"]["grid"]["region"] == "sweden" and payload["offsets"] == 0
    assert report.main(["--ledger", folder]) == 0
    assert "481 g CO2e/kWh (world, 2023; " in capsys.readouterr().out
    assert report.main(["--ledger", folder, "--region", "South Korea"]) == 0
    assert "431 g CO2e/kWh (south-korea, " in capsys.readouterr().out
    for options in ([], ["--ledger", folder, "--from", folder], ["--ledger", folder, "--region", "atlantis"]):
        assert report.main(options) == 2
    for option in ("--bundle", "--bench", "--out"):
        assert report.main(["--ledger", folder, option, folder]) == 2
        assert f"{option} goes with --from only" in capsys.readouterr().err


def test_costs_of_newer_versions_are_read(tmp_path):
    cost = {**estimated("train", 1.0, 1.0).record(), "novel": True}
    append_jsonl(tmp_path / "ledger.jsonl", [cost])
    (folder,) = read_folders([tmp_path])
    assert folder.costs == (Cost(**{key: value for key, value in cost.items() if key != "novel"}),)
