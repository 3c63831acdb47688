"""Files survive torn writes, concurrent writers and failures in the middle."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
from pathlib import Path

import pytest

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import (
    append_jsonl,
    cache_folder,
    complete_length,
    copy_file,
    last_records,
    read_json,
    read_jsonl,
    sha256_file,
    write_atomic,
    write_json,
)


def test_append_and_read(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    assert read_jsonl(path, "log") == []
    append_jsonl(path, [{"a": 1}, {"text": "two\nlines"}])
    append_jsonl(path, [{"a": 3}])
    assert read_jsonl(path, "log") == [{"a": 1}, {"text": "two\nlines"}, {"a": 3}]


@pytest.mark.parametrize("torn", [b'{"a": 2', b"{", '{"é'.encode()[:-1], b'{"a": 2}'])
def test_torn_tail_is_forgiven_by_the_reader_and_cut_by_the_writer(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"a": 1}])
    with path.open("ab") as file:
        file.write(torn)
    assert read_jsonl(path, "log") == [{"a": 1}]
    append_jsonl(path, [{"a": 3}])
    assert read_jsonl(path, "log") == [{"a": 1}, {"a": 3}]


def test_torn_tail_longer_than_a_block(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    assert complete_length(path) == 9
    path.write_bytes(b"x" * 200_000)
    assert complete_length(path) == 0
    append_jsonl(path, [{"a": 2}])
    assert path.read_bytes() == b'{"a": 2}\n'


def test_a_cut_at_any_byte_costs_only_what_it_cuts(tmp_path):
    path = tmp_path / "log.jsonl"
    records = [{"number": number, "text": "caf\u00e9"} for number in range(4)]
    append_jsonl(path, records)
    whole = path.read_bytes()
    ends = [number + 1 for number, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(ends[1], len(whole)):
        kept = records[: sum(end <= length for end in ends)]
        path.write_bytes(whole[:length])
        assert read_jsonl(path, "log") == kept
        append_jsonl(path, [{"number": 9}])
        assert read_jsonl(path, "log") == [*kept, {"number": 9}]


@pytest.mark.parametrize("padding", [0, 40_000, 200_000])
def test_the_last_records_are_read_from_the_end(tmp_path, padding):
    path = tmp_path / "log.jsonl"
    assert list(last_records(path)) == []
    append_jsonl(path, [{"number": number, "padding": "é" * padding} for number in range(5)])
    with path.open("ab") as file:
        file.write(b'{"number": 5')
    assert [record["number"] for record in last_records(path)] == [4, 3, 2, 1, 0]
    path.write_bytes(b'{"number": 1}\n[]\n{"number": 2}\n')
    assert list(last_records(path)) == [{"number": 2}]


@pytest.mark.parametrize("line", [b"{broken}", b"", b"[1]", b"\xff\xfe", bytes(100)])
def test_damaged_middle_line_is_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(UserError, match=r"log .*log.jsonl, line 2, is damaged"):
        read_jsonl(path, "log")


def _append_many(path: Path, writer: int) -> None:
    for number in range(20):
        append_jsonl(path, [{"writer": writer, "number": number, "padding": "x" * 500}])


def test_concurrent_appends_lose_nothing(tmp_path):
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_many, args=(path, writer)) for writer in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = [(record["writer"], record["number"]) for record in read_jsonl(path, "log")]
    assert sorted(found) == [(writer, number) for writer in range(4) for number in range(20)]


@pytest.mark.parametrize("content", ["text", b"text", lambda beside: beside.write_text("text")])
def test_atomic_write_replaces_and_leaves_nothing_beside(tmp_path, content):
    path = tmp_path / "folder" / "file"
    write_atomic(path, "old")
    write_atomic(path, content)
    assert path.read_text() == "text"
    assert list(path.parent.iterdir()) == [path]


def test_failed_atomic_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fails(beside: Path) -> None:
        beside.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_files(tmp_path):
    path = tmp_path / "facts.json"
    with pytest.raises(UserError, match=r"facts .* does not exist"):
        read_json(path, "facts")
    write_json(path, {"a": [1, 2]})
    assert read_json(path, "facts") == {"a": [1, 2]} == json.loads(path.read_text())
    for damaged in (b'{"a": ', b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is damaged|is no text"):
            read_json(path, "facts")


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("OFA_TVM_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "ofa_tvm"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, tmp_path):
    def nobody(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("OFA_TVM_CACHE")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match=r"no home folder\n.*OFA_TVM_CACHE and OFA_TVM_LOGS"):
        cache_folder()
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_whole_file_is_written_through_a_link_and_into_what_is_no_file(tmp_path):
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    write_atomic(link, "new")
    assert (real.read_text(), link.is_symlink()) == ("new", True)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "real"]


def test_a_copy_that_has_no_room_is_named(tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 10_000)
    with pytest.raises(OSError, match="No space left") as caught:
        copy_file(tmp_path / "source", Path("/dev/full"))
    assert caught.value.filename == "/dev/full"
