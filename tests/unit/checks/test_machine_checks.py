"""The doctor's checks on made-up machines: each failure says how to mend it, and only failures fail."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import pytest

from ofa_tvm import doctor
from ofa_tvm.checks import machine_checks as checks
from ofa_tvm.checks.board_checks import _board, board_checks
from ofa_tvm.checks.machine_checks import Check, target_checks
from ofa_tvm.checks.meanings import MEANINGS, meaning
from ofa_tvm.compiler.tvm_api.versions import TESTED
from ofa_tvm.support.errors import DeviceUnreachable, UserError
from ofa_tvm.tuner.trial import TrialResult


def answering(result):
    def trial(target, kernel, candidate):
        if isinstance(result, Exception):
            raise result
        return result

    return trial


@pytest.mark.parametrize(
    ("result", "statuses", "word"),
    [
        (TrialResult("ok", (0.1,)), ["ok", "ok", "ok"], "computes"),
        (TrialResult("crashed", error="killed by SIGILL"), ["ok", "ok", "fail"], "killed by SIGILL"),
        (DeviceUnreachable("no worker", "install it"), ["ok", "fail"], "no worker"),
    ],
)
def test_target_checks_stop_at_what_fails(result, statuses, word):
    found = list(target_checks("x86", answering(result)))
    assert [check.status for check in found] == statuses
    assert word in found[-1].found
    assert bool(found[-1].fix) == (found[-1].status == "fail")


def test_an_unknown_target_is_one_failed_check():
    (check,) = target_checks("no-such-target", answering(TrialResult("ok", (0.1,))))
    assert check.status == "fail"
    assert "x86" in check.fix


def test_other_targets_have_no_board_checks():
    assert list(board_checks("x86")) == list(board_checks("no-such-target")) == []


def test_what_a_board_tells():
    board = {"board": "a:1", "reference_ms": 0.5, "reference_spread": 1.05, "quarantine": ""}
    board["facts"] = {"model": "Some Board", "millidegrees": 52500, "clock_khz": {"0": 600000, "4": 2400000}}
    assert _board(board) == Check(
        "board a:1",
        "ok",
        "Some Board; 600/2400 MHz; 52 degrees C; a reference kernel takes 0.500 ms, spread 1.05x",
    )
    noisy = _board({**board, "quarantine": "noisy: 2x"})
    assert (noisy.status, noisy.found[:9], bool(noisy.fix)) == ("fail", "noisy: 2x", True)


def test_a_package_that_breaks_on_import_fails_its_check(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise RuntimeError('wrong build')")
    monkeypatch.syspath_prepend(tmp_path)
    found = checks._package("broken", "broken_package", "install it again")
    assert found == Check("broken", "fail", "cannot be imported: wrong build", "install it again")


def test_a_package_tells_the_version_of_its_root(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("__version__ = '2.3'")
    (tmp_path / "some_package" / "part.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert checks._package("some", "some_package.part", "install it") == Check("some", "ok", "2.3")


def test_versions_of_tvm_that_crash_are_named(monkeypatch):
    def refuse():
        raise UserError("this pair crashes", "pip install another")

    monkeypatch.setattr(checks, "check_versions", refuse)
    assert checks._tvm() == Check("TVM", "fail", "this pair crashes", "pip install another")


@pytest.mark.parametrize(
    ("broken", "version", "status", "words"),
    [
        (True, TESTED, "fail", "cannot be imported: wrong build"),
        (False, "0.28.0", "warn", "logs of that version, do not serve this one"),
        (False, TESTED, "ok", TESTED),
    ],
)
def test_a_tvm_that_is_broken_or_another_one(monkeypatch, broken, version, status, words):
    def imported(name):
        if broken:
            raise RuntimeError("wrong build")
        return sys

    monkeypatch.setitem(sys.modules, "ofa_tvm.compiler.tvm_api.package", sys)
    monkeypatch.setattr(checks, "check_versions", lambda: None)
    monkeypatch.setattr(checks, "import_module", imported)
    monkeypatch.setattr(checks, "package_version", lambda name: version)
    found = checks._tvm()
    assert (found.status, bool(found.fix)) == (status, status != "ok")
    assert words in found.found


def test_a_disk_from_which_nothing_may_run_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "is_noexec", lambda folder: True)
    assert checks._writable("logs", tmp_path, "set it").status == "ok"
    found = checks._writable("cache", tmp_path, "set it", needs_to_run=True)
    assert (found.status, found.fix) == ("fail", "set it")
    assert "noexec" in found.found


def test_tools(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert checks._tool("linker", ("g++",), "install it", "fail") == Check(
        "linker", "fail", "no g++ found", "install it"
    )


def test_a_folder_that_cannot_be_written(tmp_path):
    assert checks._writable("cache", tmp_path / "new", "set it").status == "ok"
    (tmp_path / "file").write_text("")
    found = checks._writable("cache", tmp_path / "file", "set it")
    assert (found.status, found.fix) == ("fail", "set it")


def test_supernet_is_checked_by_its_manifest(tmp_path):
    assert checks._supernet(tmp_path).status == "warn"
    (tmp_path / checks.SUPERNET_FILE).write_bytes(b"weights")
    assert "without a manifest" in checks._supernet(tmp_path).found
    manifest = tmp_path / "manifest.json"
    manifest.write_text(
        json.dumps({"schema_version": 1, "files": {checks.SUPERNET_FILE: hashlib.sha256(b"weights").hexdigest()}})
    )
    assert checks._supernet(tmp_path) == Check("shipped supernet", "ok", str(tmp_path / checks.SUPERNET_FILE))
    (tmp_path / checks.SUPERNET_FILE).write_bytes(b"other weights")
    assert checks._supernet(tmp_path).status == "fail"
    manifest.write_text("[]")
    assert "is damaged" in checks._supernet(tmp_path).found


@pytest.mark.parametrize(
    ("status", "code", "word"), [("ok", 0, "all is well"), ("warn", 0, "all is well"), ("fail", 1, "1 of 1")]
)
def test_doctor_ends_with_1_only_when_something_fails(monkeypatch, capsys, status, code, word):
    monkeypatch.setattr(checks, "machine_checks", lambda: iter([Check("TVM", status, "found", "mend it")]))
    assert doctor.main([]) == code
    text = capsys.readouterr().out
    assert text.startswith(status)
    assert "-> mend it" in text
    assert "tune, search, deploy, bench and compile need it" in text
    assert word in text
    assert doctor.main(["--json"]) == code
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "schema_version": 1,
        "failed": code,
        "checks": [{"name": "TVM", "status": status, "found": "found", "fix": "mend it", "means": meaning("TVM")}],
    }


def test_every_check_says_what_it_is_for():
    """Names are found in the sources; those that begin with a word and go on with a name count by their first word."""
    sources = "".join(path.read_text() for path in Path(checks.__file__).parent.glob("*_checks.py"))
    called = r'(?:Check|_package|_tool|_writable|_attempt)\(\s*"([^"]+)"'
    names = {*re.findall(called, sources), "onnxruntime (optional)", "openvino (optional)", "llvm-mca", "llvm-objdump"}
    assert len(names) > 25
    assert all(meaning(name) for name in [*names, "target x86", "board 10.0.0.1:9090"])
    assert MEANINGS.keys() <= names | {"target", "board"}
