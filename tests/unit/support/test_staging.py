"""What killed processes leave of unfinished files is swept; what a living process is making is not."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

import pytest

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import append_jsonl, write_atomic
from ofa_tvm.support.holding import held
from ofa_tvm.support.staging import leftovers, staged, sweep

DEAD = ".state-0123456789abcdef"


def killed_while_writing(path):
    """Kill a process in the middle of an atomic write."""

    def half(temporary):
        temporary.write_text("half")
        temporary.with_name(".tmpAbCdEf").write_text("a library's own temporary file")
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        write_atomic(path, half)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_a_killed_write_is_swept_by_the_next_holder(tmp_path):
    inside = tmp_path / "tiny"
    for folder in (tmp_path, inside):
        killed_while_writing(folder / "state")
        assert len(leftovers(folder)) == 1
    for old in (".123-state.safetensors", ".tmpAb12Cd"):
        (tmp_path / old).write_text("of an older version")
    (tmp_path / ".tmp-mine").write_text("somebody's")
    with held(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".holder", ".tmp-mine", "tiny"}
        assert not list(inside.iterdir())


def test_what_a_living_process_is_making_stays(tmp_path):
    (tmp_path / DEAD).mkdir()
    with staged(tmp_path / "state") as mine:
        (mine / "state").write_text("half")
        assert leftovers(tmp_path) == [tmp_path / DEAD]
        with held(tmp_path):
            assert list(mine.iterdir())
    assert not mine.exists()
    assert not (tmp_path / DEAD).exists()


def test_only_leftovers_of_that_name_are_swept(tmp_path):
    for name in (
        DEAD,
        ".other-0123456789abcdef",
        "state-0123456789abcdef",
        ".state-0123",
        ".other-0123456789abcdef-old",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / ".state-fedcba9876543210").write_text("no folder")
    sweep(tmp_path, "state")
    assert len(list(tmp_path.iterdir())) == 5
    assert not (tmp_path / DEAD).exists()
    sweep(tmp_path / "missing")


@pytest.mark.parametrize(("is_there", "content"), [(True, "new"), (False, "old")])
def test_what_was_set_aside_comes_back_unless_it_was_replaced(tmp_path, is_there, content):
    aside = tmp_path / f"{DEAD}-old"
    aside.mkdir()
    (aside / "file").write_text("old")
    if is_there:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "file").write_text("new")
    sweep(tmp_path, "state")
    assert (tmp_path / "state" / "file").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def without_locks(code):
    def flock(*arguments):
        raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, code):
    monkeypatch.setattr(fcntl, "flock", without_locks(code))
    (tmp_path / DEAD).mkdir()
    for action in (lambda: append_jsonl(tmp_path / "log.jsonl", [{}]), lambda: held(tmp_path).__enter__()):
        with pytest.raises(UserError, match=rf"{tmp_path}: files there cannot be locked: .*\n.*OFA_TVM_LOGS"):
            action()
    write_atomic(tmp_path / "file", "whole")
    sweep(tmp_path)
    assert (tmp_path / DEAD).exists(), "nobody can tell whether its process lives"
    assert (tmp_path / "file").read_text() == "whole"


def test_a_folder_that_may_not_be_written_is_told_with_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", without_locks(errno.EPERM))
    with pytest.raises(UserError, match=rf"{tmp_path} cannot be written: .*\n.*--out; OFA_TVM_LOGS or --logs"):
        held(tmp_path).__enter__()


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for path, action in (
        (tmp_path / "a.json", lambda: write_atomic(tmp_path / "a.json", "text")),
        (tmp_path / "b.jsonl", lambda: append_jsonl(tmp_path / "b.jsonl", [{}])),
    ):
        with pytest.raises(OSError, match=rf"No space left on device: '{path}'"):
            action()
