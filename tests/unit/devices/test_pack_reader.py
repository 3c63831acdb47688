"""Results of packs: only what can be trusted goes into the log, and nothing twice. No TVM, no device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import packed
from ofa_tvm.devices.pack.measure import FIRST
from ofa_tvm.devices.pack.reader import OLDEST_SCHEMA, import_kernels
from ofa_tvm.devices.pack.wholeness import LEAST_MS, is_answer
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.pack_rounds import Exported, PackRound
from ofa_tvm.reporting.tuning_text import lost_results, pack_text
from ofa_tvm.spaces import MBV3_CIFAR as SPACE
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.typed import MAX_MS
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.latency_records import read_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.measured_traces import kept_traces

KERNEL = "conv_8x8_16-32_k1s1_b1"
OTHER = "dense_1x1_16-32_b1"
DEVICE = {"name": "NVIDIA Made Up", "driver_version": "580.1"}
CANDIDATES = (
    Candidate(KERNEL, "default", {}),
    Candidate(KERNEL, "evolution", {"trace": [[], []]}),
    Candidate(OTHER, "default", {}),
)
TARGET = load_target("cuda-sm90")


@pytest.fixture
def log(tmp_path):
    return TuningLog(TARGET, tmp_path / "logs")


@pytest.fixture
def pack(tmp_path):
    return pack_of(tmp_path / "pack", CANDIDATES)


def pack_of(folder, candidates):
    folder.mkdir()
    manifest = {
        "schema": SCHEMA,
        "round": "round-1",
        "target": TARGET.name,
        "fingerprint": TARGET.fingerprint,
        "conditions": TARGET.conditions,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for one in candidates:
        pack_files.append_line(folder / pack_files.ENTRIES, {"id": one.digest, "candidate": packed(one)})
    return folder


def measured(pack, *records, device=DEVICE, name="round-1"):
    path = pack / "results.jsonl"
    pack_files.append_line(path, {"round": name, "device": device})
    for record in records:
        pack_files.append_line(path, {"round": name, **record})
    return path


def ok(number, *times_ms, **more):
    return {"id": CANDIDATES[number].digest, "status": "ok", "times_ms": list(times_ms), "is_checked": True, **more}


def taken(pack, log):
    with log.exclusive():
        return import_kernels(pack, TARGET, log)


def test_results_reach_the_log_once(pack, log):
    measured(pack, ok(0, 0.3, 0.2), ok(1, 0.1), {"id": CANDIDATES[2].digest, "status": "crashed", "error": "gone"})
    done = taken(pack, log)
    assert (done.results, done.failures, done.known, done.damaged, done.missing) == (3, 1, 0, 0, 0)
    assert done.device == DEVICE["name"]
    state = log.kernels[KERNEL]
    assert (state.best_ms, state.default_ms, state.trials, state.source) == (0.1, 0.2, 2, "evolution")
    assert log.kernels[OTHER].failures == 1
    assert [line["times_ms"] for line in kept_traces(log.folder)[KERNEL]] == [[0.1]]
    again = taken(pack, log)
    assert (again.results, again.known) == (0, 3)
    assert len((log.folder / "trials.jsonl").read_text().splitlines()) == 3
    assert len(kept_traces(log.folder)[KERNEL]) == 1


def test_a_partial_result_file_is_continued(pack, log):
    measured(pack, ok(0, 0.3))
    assert taken(pack, log).missing == 2
    measured(pack, ok(1, 0.2), ok(2, 0.5))
    done = taken(pack, log)
    assert (done.results, done.known, done.missing) == (2, 1, 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "splendid", "times_ms": [1.0]},
        {"status": "ok", "times_ms": []},
        {"status": "ok", "times_ms": [0.0]},
        {"status": "ok", "times_ms": [-1.0]},
        {"status": "ok", "times_ms": ["1"]},
        {"status": "ok", "times_ms": 3},
        {"status": "ok", "times_ms": [float("nan")]},
        {"status": "ok", "times_ms": [10**400]},
        {"status": "ok", "times_ms": [1.0], "at": "now"},
        {},
    ],
)
def test_results_that_make_no_sense_are_left_out(pack, log, bad, capsys):
    measured(pack, ok(0, 0.3), {"id": CANDIDATES[1].digest, **bad})
    done = taken(pack, log)
    assert (done.results, done.damaged, done.missing) == (1, 1, 2)
    assert "1 damaged lines are left out" in capsys.readouterr().err


def test_results_of_an_entry_that_was_damaged_are_counted(pack, log):
    measured(pack, ok(0, 0.3), ok(1, 0.1))
    entries = pack / pack_files.ENTRIES
    lines = entries.read_text().splitlines()
    entries.write_text("\n".join([lines[0], lines[1].replace("check", "chick"), lines[2]]) + "\n")
    done = taken(pack, log)
    assert (done.results, done.strays, done.missing) == (1, 1, 1)
    lost = lost_results(PackRound("log", done), pack)
    assert "1 results are left out" in str(lost)
    assert "1 of entries that cannot be read" in pack_text(PackRound("log", done), "--target mine")


def test_an_import_that_takes_nothing_is_no_success(pack, log):
    measured(pack, {**ok(0, 0.3), "times_ms": [float("nan")]})
    lost = lost_results(PackRound("log", taken(pack, log)), pack)
    assert "nothing was taken" in str(lost)
    measured(pack, ok(0, 0.3))
    assert lost_results(PackRound("log", taken(pack, log)), pack) is None


def test_the_command_that_imports_a_pack_names_target_and_log():
    exported = Exported("my pack", entries=1, kernels=1, subnets=0, size_bytes=9, failures=0)
    said = pack_text(PackRound("log", exported=exported), "--target x86 --device pack --batch 4", Path("my logs"))
    assert "tune --target x86 --device pack --batch 4 --import-pack 'my pack' --logs 'my logs'\n" in said


def test_subnets_that_failed_are_no_latencies(pack, log):
    for number, config in enumerate((SPACE.largest, SPACE.smallest, SPACE.middle)):
        subnet = {"space": "mbv3-cifar", "classes": 10, "subnet": config.key, "schedules": "s"}
        pack_files.append_line(pack / pack_files.ENTRIES, {"id": str(number), **subnet})
    measured(pack, {"id": "0", "status": "failed", "error": "no memory", "at": 1e9}, {"id": "1", **SUBNET})
    done = taken(pack, log)
    assert (done.subnets, done.failed_subnets, done.known, done.missing) == (1, 1, 0, 4)
    assert "1 latencies of subnets, 1 failed: no memory" in pack_text(PackRound("log", done), "--target mine")
    again = taken(pack, log)
    assert (again.subnets, again.failed_subnets, again.known) == (0, 0, 2)


FIGURES = (0.2, 0.3, 0.4, 0.2, 0.3, 0.4, 50, 2, 0.99, 0.01)
SUBNET = {"status": "ok", "at": 1e9, "times_ms": [0.2], "reference_ms": [0.5], "figures": [FIGURES]}


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [
        ({}, True),
        ({"figures": []}, True),
        ({"figures": [(0.9, *FIGURES[1:])]}, False),
        ({"figures": [FIGURES, FIGURES]}, False),
        ({"figures": [FIGURES[:9]]}, False),
        ({"figures": 3}, False),
        ({"energy_mj": 12.5}, True),
        ({"energy_mj": None}, True),
        ({"energy_mj": 0}, False),
        ({"energy_mj": "12"}, False),
        ({"reference_ms": []}, False),
        ({"reference_ms": [1e-30]}, False),
        ({"is_checked": False}, False),
        ({"reference_ms": [10**400]}, False),
        ({"at": 1e300}, False),
        ({"at": 1e30}, False),
        ({"at": 10**30}, False),
        ({"at": -1e12}, False),
        ({"at": None}, False),
    ],
)
def test_a_subnets_windows_are_taken_where_they_agree_with_its_times(pack, log, change, is_taken):
    subnet = {"space": "mbv3-cifar", "classes": 10, "subnet": SPACE.largest.key, "schedules": "s"}
    pack_files.append_line(pack / pack_files.ENTRIES, {"id": "one", **subnet})
    measured(pack, {"id": "one", **SUBNET, **change})
    done = taken(pack, log)
    assert (done.subnets, done.damaged) == (is_taken, not is_taken)
    records = read_records(log.folder, SPACE.name)
    assert [record.energy_mj for record in records] == [change.get("energy_mj")] * is_taken
    assert taken(pack, log).subnets == 0, "nothing is taken twice"


@pytest.mark.parametrize("device", [{}, {"name": 3}])
def test_a_device_without_a_name_has_none(pack, log, device):
    measured(pack, ok(0, 0.3), device=device)
    assert taken(pack, log).results == 1
    measured(pack, ok(1, 0.3), device=device)
    assert taken(pack, log).results == 1


def test_results_without_the_line_of_their_device_are_refused(pack, log):
    path = measured(pack, ok(0, 0.3))
    path.write_text(path.read_text().replace("Made Up", "Made Down"))
    with pytest.raises(UserError, match=r"does not say on which device .*\n.*measure\.py"):
        taken(pack, log)


def test_a_gpu_that_is_not_known_is_told(pack, log, capsys):
    measured(pack, ok(0, 0.3), device={"name": "unknown GPU"})
    assert taken(pack, log).results == 1
    assert "nothing says on which device this was measured" in capsys.readouterr().err


@pytest.mark.parametrize(("capability", "is_taken"), [("9.0", True), ("[N/A]", True), ("8.0", False), ("12.0", False)])
def test_a_gpu_of_another_architecture_is_refused(pack, log, capability, is_taken):
    measured(pack, ok(0, 0.3), device={**DEVICE, "compute_cap": capability})
    if is_taken:
        assert taken(pack, log).results == 1
        return
    with pytest.raises(UserError, match=r"come from 'NVIDIA Made Up', which is sm_\d+; target cuda-sm90 is sm_90"):
        taken(pack, log)
    assert not log.kernels


def test_a_line_of_a_thousand_brackets_is_damaged(pack, log):
    path = measured(pack, ok(0, 0.3))
    with path.open("a") as file:
        file.write("[" * 100_000 + "\n")
    assert taken(pack, log).damaged == 1


def test_a_file_that_was_cut_off_gives_what_is_whole(pack, log, capsys):
    path = measured(pack, ok(0, 0.3), ok(1, 0.2))
    path.write_bytes(path.read_bytes()[:-40])
    assert (taken(pack, log).results, "damaged" in capsys.readouterr().err) == (1, True)


def test_an_output_that_was_not_checked_does_not_win(pack, log):
    measured(pack, ok(0, 0.3, is_checked=False), ok(1, 0.2, is_checked="yes"))
    done = taken(pack, log)
    assert (done.results, done.damaged, done.missing) == (0, 2, 3), "measure.py measures them again"
    measured(pack, {"id": CANDIDATES[2].digest, "status": "ok", "times_ms": [0.1]})
    assert taken(pack, log).damaged == 3
    assert not log.kernels


ODD: list[tuple[dict[str, object], bool]] = [
    ({}, True),
    ({"times_ms": [1]}, True),
    ({"times_ms": [1e-30]}, False),
    ({"times_ms": [1e-6]}, False),
    ({"times_ms": [LEAST_MS]}, True),
    ({"times_ms": [0.3, 1e-7]}, False),
    ({"times_ms": [MAX_MS]}, True),
    ({"times_ms": [1e8]}, False),
    ({"times_ms": [10**400]}, False),
    ({"times_ms": [True]}, False),
    ({"times_ms": None}, False),
    ({"is_checked": False}, False),
    ({"is_checked": None}, False),
    ({"is_checked": "yes"}, False),
    ({"is_checked": 1}, False),
    ({"is_checked": 0}, False),
    ({"at": "now"}, False),
    ({"at": -1}, False),
    ({"at": 1e30}, False),
    ({"energy_mj": 1e9}, True),
    ({"energy_mj": 2e9}, False),
    ({"energy_mj": True}, False),
    ({"reference_ms": 3}, False),
    ({"figures": [[float("inf")] * 10]}, False),
    ({"error": 7}, False),
    ({"error": None}, False),
    ({"error": "\ud800"}, True),
    ({"status": ["ok"]}, False),
    ({"status": "failed"}, False),
    ({"status": "failed", "times_ms": []}, True),
    ({"status": "failed", "times_ms": [], "is_checked": "yes"}, True),
    ({"status": "failed", "times_ms": [], "error": 7}, False),
    ({"status": "failed", "times_ms": [], "error": "\ud800"}, True),
    ({"id": 7}, False),
]


@pytest.mark.parametrize("of_subnet", [False, True])
@pytest.mark.parametrize(("change", "is_sound"), ODD)
def test_the_import_takes_what_measure_py_keeps_and_nothing_else(pack, log, change, is_sound, of_subnet):
    if of_subnet:
        subnet = {"space": "mbv3-cifar", "classes": 10, "subnet": SPACE.largest.key, "schedules": "s"}
        pack_files.append_line(pack / pack_files.ENTRIES, {"id": "7", **subnet})
        record = {"id": "7", **SUBNET, "figures": [], **change}
        if "times_ms" in change and isinstance(change["times_ms"], list):
            record["reference_ms"] = [0.5] * len(change["times_ms"])
    else:
        record = {**ok(0, 0.3), **change}
    measured(pack, record)
    done = taken(pack, log)
    assert (done.results + done.subnets + done.failed_subnets, is_answer(record, of_subnet)) == (is_sound, is_sound)
    if of_subnet or record["id"] != 7:
        assert done.damaged == (not is_sound)
    assert len(read_records(log.folder, SPACE.name)) == (is_sound and of_subnet), "what was written can be read"
    assert (KERNEL in TuningLog(TARGET, log.root).kernels) == (is_sound and not of_subnet)


def test_results_of_another_device_are_refused(pack, log):
    measured(pack, ok(0, 0.3))
    taken(pack, log)
    (pack / "results.jsonl").unlink()
    measured(pack, ok(1, 0.3), device={"name": "NVIDIA Other"})
    with pytest.raises(UserError, match=r"come from 'NVIDIA Other', those in .* from 'NVIDIA Made Up'"):
        taken(pack, log)


def test_results_of_two_devices_in_one_file_are_refused(pack, log):
    measured(pack, ok(0, 0.3))
    measured(pack, ok(1, 0.3), device={"name": "NVIDIA Other"})
    with pytest.raises(UserError, match="several devices: NVIDIA Made Up, NVIDIA Other"):
        taken(pack, log)


def test_without_usable_results_it_says_so(pack, log):
    with pytest.raises(UserError, match=r"results\.jsonl does not exist\n.*measure\.py"):
        taken(pack, log)
    (pack / "results.jsonl").write_text("garbage\n")
    with pytest.raises(UserError, match="holds no results of this pack: 0 lines could be read, 1 are damaged"):
        taken(pack, log)
    (pack / "results.jsonl").unlink()
    measured(pack, ok(0, 0.3), name="round-0")
    with pytest.raises(UserError, match="2 lines are of another pack"):
        taken(pack, log)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda manifest: {**manifest, "schema": 99}, "is damaged: key 'schema'"),
        (lambda manifest: {**manifest, "schema": OLDEST_SCHEMA - 1}, "is damaged: key 'schema'"),
        (lambda manifest: [], "is damaged"),
        (
            lambda manifest: {**manifest, "conditions": {**manifest["conditions"], "batch": 2}},
            r"is damaged: its conditions are not those of its fingerprint \(batch\)",
        ),
        (
            lambda manifest: {**manifest, "conditions": {}, "fingerprint": "other"},
            "was made for cuda-sm90 .* not for cuda-sm90",
        ),
        (lambda manifest: {**manifest, "round": 3}, "key 'round'"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(pack, log, change, problem):
    measured(pack, ok(0, 0.3))
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps(change(manifest)))
    with pytest.raises(UserError, match=problem):
        taken(pack, log)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"id": "x", "candidate": {"kernel": 3}}, r"entry x: key 'candidate\.kernel'"),
        ({"id": "x", "candidate": packed(CANDIDATES[0])}, "its candidate is not what its id says"),
        ({"id": "x", "candidate": "bm90IHpsaWI="}, "not compressed text"),
        ({"id": "x", "candidate": "%"}, "entry x: key 'candidate'"),
        ({"id": "x"}, "neither a candidate nor a subnet"),
        ({}, "missing key 'id'"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(pack, log, entry, problem):
    measured(pack, ok(0, 0.3))
    pack_files.append_line(pack / pack_files.ENTRIES, entry)
    with pytest.raises(UserError, match=problem):
        taken(pack, log)


def test_a_torn_entry_is_left_out_with_a_word(pack, log, capsys):
    """As after a kill while the pack was made."""
    measured(pack, ok(0, 0.3))
    with (pack / pack_files.ENTRIES).open("a") as file:
        file.write('{"record": {"id": "to')
    assert taken(pack, log).results == 1
    assert "1 damaged lines are left out" in capsys.readouterr().err


def test_results_that_all_failed_are_those_of_another_machine(tmp_path, log):
    candidates = [Candidate(KERNEL, "template", {"number": number}) for number in range(FIRST)]
    folder = pack_of(tmp_path / "pack", candidates)
    failed = [{"id": one.digest, "status": "failed", "error": "cannot open shared object"} for one in candidates]
    measured(folder, *failed)
    with pytest.raises(UserError, match=r"all 5 results of .* failed: cannot open shared object"):
        taken(folder, log)
    assert not log.kernels
    measured(folder, {**failed[0], "status": "ok", "times_ms": [0.1], "is_checked": True})
    assert taken(folder, log).results == 5


def test_a_pack_of_the_version_before_is_taken(pack, log):
    """Its results are of the same form; what its own script reads is not."""
    measured(pack, ok(0, 0.3))
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps({**manifest, "schema": OLDEST_SCHEMA}))
    assert taken(pack, log).results == 1


def test_a_folder_that_is_no_pack(tmp_path, log):
    with pytest.raises(UserError, match="is not a pack"):
        taken(tmp_path, log)
