"""The tuning log survives kills and other processes, and never takes a failure for a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.kernel_times import how_to_tune
from ofa_tvm.spaces import SPACES
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl, write_atomic
from ofa_tvm.tuner import log as module
from ofa_tvm.tuner import tally
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.log import TuningLog, logs_root, opened_log, winners
from ofa_tvm.tuner.trial import KernelState, TrialResult

FIRST, SECOND = "test_kernel_first", "test_kernel_second"
FILES = ("kernels.jsonl", "trials.jsonl")
FAILURES = ("failed", "wrong_output", "crashed", "timed_out")


@pytest.fixture
def target():
    return load_target("x86")


@pytest.fixture
def log(target, tmp_path):
    return TuningLog(target, tmp_path)


def candidate(number, kernel=FIRST, source="template"):
    return Candidate(kernel, source, {"template": "tile", "parameters": {"number": number}})


def ok(time_ms):
    return TrialResult("ok", (time_ms * 2, time_ms), is_checked=True)


def commit(log, *times, kernel=FIRST, start=0):
    pairs = [(candidate(start + number, kernel), ok(time_ms)) for number, time_ms in enumerate(times)]
    return log.commit(kernel, pairs)


def lines(log, name):
    return [json.loads(line) for line in (log.folder / name).read_text().splitlines()]


def test_what_was_committed_is_there_for_the_next_process(log, target, tmp_path):
    with log.exclusive():
        state = commit(log, 3.0, 1.0, 2.0)
    assert state == KernelState(FIRST, 1.0, None, 3, 0, 1, candidate(1).schedule, "template")
    again = TuningLog(target, tmp_path)
    assert again.kernels == {FIRST: state}
    assert again.tried == {candidate(number).digest for number in range(3)}
    assert again.winners == winners(log.folder) == {FIRST: candidate(1).schedule}


def test_the_time_of_the_default_is_kept(log, target, tmp_path):
    log.commit(FIRST, [(candidate(0, source="default"), ok(3.0)), (candidate(1), ok(2.0))])
    assert TuningLog(target, tmp_path).kernels[FIRST].default_ms == 3.0


def test_state_goes_on_over_batches(log):
    commit(log, 2.0, 3.0)
    assert commit(log, 4.0, start=2).since_best == 2
    state = commit(log, 1.5, start=3)
    assert (state.best_ms, state.trials, state.since_best) == (1.5, 4, 0)


def test_only_a_checked_output_wins(log):
    state = log.commit(FIRST, [(candidate(0), ok(3.0)), (candidate(1), TrialResult("ok", (1.0,)))])
    assert (state.best_ms, state.trials, state.schedule) == (3.0, 2, candidate(0).schedule)


def test_kernels_do_not_mix(log, target, tmp_path):
    commit(log, 2.0)
    commit(log, 5.0, kernel=SECOND)
    commit(log, 1.0, start=1)
    again = TuningLog(target, tmp_path)
    assert {key: (state.best_ms, state.trials) for key, state in again.kernels.items()} == {
        FIRST: (1.0, 2),
        SECOND: (5.0, 1),
    }
    assert again.winners == {FIRST: candidate(1).schedule, SECOND: candidate(0, SECOND).schedule}


@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_never_wins(log, status):
    failure = TrialResult(status, (1e-9,), "reason", is_checked=True)
    state = log.commit(FIRST, [(candidate(0), failure), (candidate(1), ok(2.0)), (candidate(2), failure)])
    assert (state.best_ms, state.trials, state.failures) == (2.0, 3, 2)
    assert log.winners == {FIRST: candidate(1).schedule}
    assert [(line["status"], line["time_ms"]) for line in lines(log, "trials.jsonl")] == [
        (status, None),
        ("ok", 2.0),
        (status, None),
    ]


def test_only_failures_leave_no_winner(log):
    state = log.commit(FIRST, [(candidate(0), TrialResult("crashed", error="killed"))])
    assert (state.best_ms, state.schedule) == (None, None)
    assert log.winners == {}


@pytest.mark.parametrize("name", FILES)
def test_a_torn_tail_is_forgiven_and_repaired(log, target, tmp_path, name):
    commit(log, 3.0)
    with (log.folder / name).open("a") as file:
        file.write('{"kernel": "test_ker')
    again = TuningLog(target, tmp_path)
    assert again.kernels[FIRST].best_ms == 3.0
    assert again.winners == {FIRST: candidate(0).schedule}
    commit(again, 2.0, start=1)
    assert len(lines(again, name)) == 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["{not json", '{"other": 1}', "[]"])
def test_a_damaged_middle_line_is_named(log, target, tmp_path, name, damage):
    commit(log, 3.0)
    commit(log, 2.0, start=1)
    path = log.folder / name
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{damage}\n{second}\n")
    with pytest.raises(UserError) as caught:
        len(TuningLog(target, tmp_path).tried)
    assert f"{path}, line 2" in str(caught.value)


@pytest.fixture
def tallied(log, monkeypatch):
    """A log whose files have tallies, and a few lines beyond them."""
    monkeypatch.setattr(tally, "WORTH_BYTES", 1)
    for start in range(3):
        commit(log, 3.0 - start, start=start)
        commit(log, 4.0, kernel=SECOND, start=start)
    with log.exclusive():
        assert len(log.tried) == 6
    monkeypatch.setattr(tally, "WORTH_BYTES", 1 << 20)
    commit(log, 0.5, start=3)
    assert sorted(path.name for path in log.folder.glob(".*.tally")) == [f".{name}.tally" for name in FILES]
    return log


def test_what_a_tally_says_is_not_parsed_again(tallied, target, tmp_path, monkeypatch):
    numbers = []

    def parsed(path, what, number, line):
        numbers.append((path.name, number))
        return json.loads(line)

    monkeypatch.setattr(tally, "parsed_line", parsed)
    again = TuningLog(target, tmp_path)
    assert again.kernels == tallied.kernels
    assert list(again.kernels) == [FIRST, SECOND]
    assert again.tried == tallied.tried
    assert numbers == [("kernels.jsonl", 7), ("trials.jsonl", 7)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", range(1, 8))
def test_a_damaged_line_is_found_wherever_it_is(tallied, target, tmp_path, name, number):
    path = tallied.folder / name
    lines = path.read_text().splitlines()
    lines[number - 1] = "#" + lines[number - 1][1:]
    path.write_text("\n".join([*lines, ""]))
    with pytest.raises(UserError, match=f"{name}, line {number}, is damaged"):
        len(TuningLog(target, tmp_path).tried)


def test_a_changed_value_counts_in_spite_of_a_tally(tallied, target, tmp_path):
    path = tallied.folder / "kernels.jsonl"
    path.write_text(path.read_text().replace('"best_ms": 4.0', '"best_ms": 9.0'))
    assert TuningLog(target, tmp_path).kernels[SECOND].best_ms == 9.0


def cut(text):
    return text[: len(text) // 2]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change",
    [
        cut,
        lambda text: "",
        lambda text: "[]\n",
        lambda text: "\0" * 100,
        lambda text: text.replace('"length": ', '"length": -'),
        lambda text: text.replace('"length": ', '"length": 99'),
        lambda text: text.replace('"lines": ', '"lines": "x", "old": '),
        lambda text: text.replace(json.loads(text.splitlines()[0])["form"], "0, another version"),
        lambda text: text[:-4] + "0" + text[-3:],
    ],
)
def test_a_damaged_tally_is_left_aside(tallied, target, tmp_path, name, change):
    path = tallied.folder / f".{name}.tally"
    path.write_text(change(path.read_text()))
    again = TuningLog(target, tmp_path)
    assert (again.kernels, again.tried) == (tallied.kernels, tallied.tried)


def test_pruning_removes_tallies(tallied, target, tmp_path):
    tallied.prune()
    assert not list(tallied.folder.glob(".*.tally"))
    assert TuningLog(target, tmp_path).kernels == tallied.kernels


def test_unknown_fields_of_a_kernel_are_refused(log, target, tmp_path):
    commit(log, 3.0)
    path = log.folder / "kernels.jsonl"
    path.write_text(json.dumps({"kernel": FIRST, "colour": "red"}) + "\n")
    with pytest.raises(UserError, match=r"kernels.jsonl, line 1, is damaged: .*colour"):
        TuningLog(target, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("best_ms", "x"),
        ("best_ms", float("nan")),
        ("best_ms", float("inf")),
        ("best_ms", -1),
        ("best_ms", True),
        ("trials", "x"),
        ("trials", -1),
        ("trials", 1.5),
        ("schedule", []),
        ("schedule", "abc"),
        ("kernel", 5),
    ],
)
def test_values_that_cannot_be_are_refused(log, target, tmp_path, field, value):
    commit(log, 3.0)
    path = log.folder / "kernels.jsonl"
    path.write_text(json.dumps({"kernel": FIRST, field: value}) + "\n")
    with pytest.raises(UserError, match=rf"kernels.jsonl, line 1, is damaged: key '{field}"):
        TuningLog(target, tmp_path)


def test_a_kill_between_files_leaves_nothing_to_count_twice(log, target, tmp_path, monkeypatch):
    def killed_after_the_ledger(path, records):
        if path.name == "kernels.jsonl":
            raise KeyboardInterrupt
        append_jsonl(path, records)

    with log.exclusive():
        commit(log, 5.0)
        monkeypatch.setattr(module, "append_jsonl", killed_after_the_ledger)
        with pytest.raises(KeyboardInterrupt):
            log.commit(FIRST, [(candidate(1, source="default"), ok(4.0)), (candidate(2), TrialResult("crashed"))])
        monkeypatch.undo()
    again = TuningLog(target, tmp_path)
    assert again.kernels[FIRST].trials == 1
    with again.exclusive():
        expected = KernelState(FIRST, 4.0, 4.0, 3, 1, 1, candidate(1).schedule, "default")
        assert again.kernels == {FIRST: expected}
    with (third := TuningLog(target, tmp_path)).exclusive():
        assert third.kernels == {FIRST: expected}
    assert len(lines(log, "kernels.jsonl")) == 2
    assert [line["number"] for line in lines(log, "trials.jsonl")] == [1, 2, 3]


def test_a_ledger_of_an_older_version_is_counted_already(log, target, tmp_path):
    with log.exclusive():
        commit(log, 5.0, 4.0)
    path = log.folder / "trials.jsonl"
    known = json.loads(path.read_text().splitlines()[0])
    without_number = {name: value for name, value in known.items() if name != "number"}
    path.write_text("".join(json.dumps(without_number | {"digest": name}) + "\n" for name in "abcd"))
    with (again := TuningLog(target, tmp_path)).exclusive():
        assert again.kernels[FIRST].trials == 2
    with path.open("a") as file:
        file.write(json.dumps(known | {"number": "x"}) + "\n")
    with pytest.raises(UserError, match=r"trials.jsonl.* damaged"), TuningLog(target, tmp_path).exclusive():
        pass


def test_prune_keeps_the_best_and_drops_the_ledger(log, target, tmp_path):
    commit(log, 3.0, 2.0)
    commit(log, 5.0, kernel=SECOND)
    commit(log, 1.0, start=2)
    before = log.winners
    log.prune()
    assert not (log.folder / "trials.jsonl").exists()
    assert len(lines(log, "kernels.jsonl")) == 2
    again = TuningLog(target, tmp_path)
    assert again.winners == before
    assert again.kernels == log.kernels
    assert again.tried == {candidate(2).digest, candidate(0, SECOND).digest}


def test_a_second_process_is_refused_and_told_who_holds_the_folder(log, target, tmp_path):
    code = (
        "import sys; from pathlib import Path; from ofa_tvm.hardware.target_files import load_target;"
        "from ofa_tvm.tuner.log import TuningLog\n"
        "with TuningLog(load_target('x86'), Path(sys.argv[1])).exclusive():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} "), log.exclusive():
            pass
        holder.stdin.close()
        assert holder.wait() == 0
    with log.exclusive():
        assert not list(log.folder.glob("*.jsonl"))


def test_waiting_for_the_folder_means_reading_it_again(log, target, tmp_path):
    late = TuningLog(target, tmp_path)
    with log.exclusive():
        commit(log, 3.0)
    with late.exclusive():
        assert late.kernels == log.kernels
        assert late.tried == log.tried


def test_the_folder_is_free_after_an_error(log):
    with pytest.raises(RuntimeError), log.exclusive():
        raise RuntimeError
    with log.exclusive():
        assert (log.folder / "manifest.json").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        {"schema_version": 1, "conditions": {"cpu": "another"}},
        *({"schema_version": version, "conditions": {}} for version in (0, 2, None, True, 1.0, "1")),
        {"schema_version": 1, "conditions": {}, "reference_ms": -1},
        {"schema_version": 1, "conditions": {}, "surprise": 1},
        {},
        [],
    ],
    ids=str,
)
def test_a_folder_of_other_conditions_is_refused(log, target, tmp_path, manifest):
    with log.exclusive():
        pass
    TuningLog(target, tmp_path)
    (log.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"other conditions than target x86|is damaged|is of a later ofa_tvm"):
        TuningLog(target, tmp_path)


@pytest.mark.seconds(5)
def test_donors_are_winners_of_other_fingerprints(log, tmp_path):
    commit(log, 1.0)
    assert FIRST not in log.donors()
    other = TuningLog(load_target("x86", batch=2), tmp_path)
    commit(other, 4.0, 3.0, start=10)
    commit(other, 2.0, start=12)
    other.commit(SECOND, [(candidate(0, SECOND), TrialResult("failed"))])
    assert other.folder != log.folder
    assert log.donors()[FIRST] == [candidate(12).schedule]
    assert SECOND not in log.donors()
    assert other.donors()[FIRST] == [candidate(0).schedule]


def test_the_same_conditions_under_another_name_are_the_same_log(log, tmp_path):
    two = load_target("x86", threads=load_target("x86-2t").threads)
    with (named := TuningLog(load_target("x86-2t"), tmp_path)).exclusive():
        commit(named, 1.0)
    assert TuningLog(two, tmp_path).kernels == named.kernels


def test_equal_donors_are_named_once(log, tmp_path):
    for batch in (2, 3):
        commit(TuningLog(load_target("x86", batch=batch), tmp_path), 1.0)
    assert log.donors()[FIRST] == [candidate(0).schedule]


def test_the_likest_donor_comes_first(log, tmp_path):
    for batch, start in ((2, 0), (3, 5)):
        other = TuningLog(load_target("x86", batch=batch), tmp_path)
        with other.exclusive():
            commit(other, 1.0, start=start)
    unknown = TuningLog(load_target("x86", batch=4), tmp_path)
    commit(unknown, 1.0, start=9)
    seen = log.donors(lambda conditions: -conditions.get("batch", 0))
    assert seen[FIRST] == [candidate(number).schedule for number in (5, 0, 9)]


def test_a_relative_root_is_no_donor_of_itself(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = TuningLog(target, tmp_path.relative_to(tmp_path))
    commit(log, 1.0)
    assert FIRST not in log.donors()


def test_schedules_digest_follows_the_winners_of_its_kernels(log):
    commit(log, 3.0)
    before = log.schedules_digest([FIRST])
    commit(log, 1.0, kernel=SECOND)
    commit(log, 4.0, start=1)
    assert log.schedules_digest([FIRST]) == before
    assert log.schedules_digest([FIRST, SECOND]) != before
    commit(log, 2.0, start=2)
    assert log.schedules_digest([FIRST]) != before


@pytest.fixture
def installed(tmp_path, monkeypatch, target):
    """A log of this fingerprint in an installed package, and a home of the user's own."""
    shipped = tmp_path / "package" / "shipped" / "tuning_logs"
    monkeypatch.setattr(module, "shipped_folder", lambda name: shipped)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("OFA_TVM_LOGS", raising=False)
    log = TuningLog(target, shipped)
    with log.exclusive():
        commit(log, 2.0)
        log.prune()
    return log


def test_an_installed_package_is_not_written_to(installed, tmp_path):
    assert logs_root() == tmp_path / "home" / ".local" / "share" / "ofa_tvm" / "tuning_logs"


def test_a_checkout_keeps_what_is_measured_apart_from_what_ships(installed, tmp_path):
    (installed.root.parent / "pyproject.toml").touch()
    assert logs_root() == installed.root / "local"


@pytest.mark.parametrize("is_checkout", [False, True])
def test_a_shipped_log_is_an_answer_and_copied_at_the_first_use(installed, target, is_checkout):
    if is_checkout:
        (installed.root.parent / "pyproject.toml").touch()
    before = {path.name: path.read_bytes() for path in installed.folder.iterdir()}
    user = TuningLog(target)
    assert user.winners == installed.winners
    assert not user.root.exists()
    with user.exclusive():
        assert user.folder == user.root / target.name / target.fingerprint
        assert user.kernels == installed.kernels
        assert user.donors() == {}
        commit(user, 1.0, start=1)
    again = TuningLog(target)
    assert again.folder == user.folder
    assert again.kernels[FIRST].best_ms == 1.0
    with again.exclusive():
        assert again.kernels[FIRST].best_ms == 1.0
    assert {path.name: path.read_bytes() for path in installed.folder.iterdir()} == before


def test_a_copy_that_was_killed_starts_again(installed, target, monkeypatch):
    def killed(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt), TuningLog(target).exclusive():
        pass
    monkeypatch.setattr(module, "write_atomic", write_atomic)
    user = TuningLog(target)
    assert user.folder == installed.folder
    with user.exclusive():
        assert user.kernels == installed.kernels


def test_a_shipped_log_of_this_fingerprint_is_a_donor_to_another_root(installed, target, tmp_path):
    other = TuningLog(target, tmp_path / "other")
    assert other.kernels == {}
    assert other.donors() == {FIRST: [candidate(0).schedule]}
    assert other.hides_shipped
    assert not TuningLog(target).hides_shipped


def test_a_command_says_once_what_hides_the_logs_that_ship(installed, target, tmp_path, monkeypatch, capfd):
    other = tmp_path / "other"
    monkeypatch.setenv("OFA_TVM_LOGS", str(other))
    for _ in range(2):
        hides = opened_log(target)
    said = f"beware: OFA_TVM_LOGS names {other}, so the logs that ship are not used\n"
    assert capfd.readouterr().err == said
    assert how_to_tune(SPACES["mbv3-cifar"], hides).endswith("; or take the log that ships: without OFA_TVM_LOGS")
    opened_log(target, tmp_path / "third")
    assert capfd.readouterr().err == said.replace("OFA_TVM_LOGS", "--logs").replace("other", "third")
    with hides.exclusive():
        pass
    module._warn_once.cache_clear()
    opened_log(target)
    monkeypatch.delenv("OFA_TVM_LOGS")
    opened_log(target)
    assert capfd.readouterr().err == ""


def test_environment_names_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_LOGS", str(tmp_path))
    assert logs_root() == tmp_path
    assert winners(tmp_path) == {}


def test_emulated_times_are_never_stored(tmp_path):
    log = TuningLog(load_target("arm", device="emulated"), tmp_path)
    with pytest.raises(UserError, match="times under emulation say nothing"), log.exclusive():
        pass
    with pytest.raises(UserError, match="use --device estimate, or a board"):
        log.commit("kernel", [])
    assert not list(tmp_path.rglob("*"))


def test_a_log_of_another_tvm_is_found(log, target, tmp_path):
    assert log.of_other_tvm() is None
    with log.exclusive():
        assert log.of_other_tvm() is None
    for name, changes in (("far", {"tvm": "0.28.0", "threads": 7}), ("near", {"tvm": "0.28.0"})):
        folder = tmp_path / "x86" / name
        folder.mkdir()
        manifest = {"schema_version": 1, "conditions": {**target.conditions, **changes}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert log.of_other_tvm() == (tmp_path / "x86" / "near", "0.28.0")
    assert f"the log in {tmp_path}/x86/near is of apache-tvm 0.28.0" in how_to_tune(SPACES["mbv3-cifar"], log)


def test_a_named_folder_of_logs_needs_no_home(target, tmp_path, monkeypatch):
    def homeless():
        raise UserError("no home")

    monkeypatch.setattr(module, "own_root", homeless)
    assert TuningLog(target, tmp_path).folder.is_relative_to(tmp_path)
