"""What the cache can make again: whole or made again, bounded, and never dropped while it may be in use."""

from __future__ import annotations

import os
import time

import pytest

from ofa_tvm import doctor
from ofa_tvm.support import made_again
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.made_again import IN_USE_S, MB, cache_facts, clear, is_whole, keep, made, tidy, unsealed, usable


@pytest.fixture(autouse=True)
def compiled(tmp_path, monkeypatch):
    """The folder of compiled files in a cache of the test's own."""
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    monkeypatch.delenv(made_again.VARIABLE, raising=False)
    return tmp_path / "compiled"


def flipped(data):
    return bytes([*data[:5], data[5] ^ 1, *data[6:]])


DAMAGES = {
    "cut in half": lambda data: data[: len(data) // 2],
    "a byte less": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "empty": lambda data: b"",
    "one bit": flipped,
    "zeros": lambda data: bytes(len(data)),
    "another file": lambda data: b"#!/bin/sh\n" * 10,
}


def used_ago(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again_with_a_word(compiled, capfd, damage):
    path = compiled / "library.so"
    make = lambda temporary: temporary.write_bytes(b"machine code")  # noqa: E731
    assert made(path, make) == path
    assert (unsealed(path), capfd.readouterr().err) == (b"machine code", "")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert not is_whole(path)
    assert unsealed(made(path, make)) == b"machine code"
    assert capfd.readouterr().err == f"{path} is damaged or of an earlier version, and made again, as others may be\n"
    assert [each.name for each in compiled.iterdir()] == ["library.so"]


def test_what_stands_under_anothers_name_is_made_again(compiled, capfd):
    one, other = compiled / "1.o", compiled / "2.o"
    keep(one, b"one")
    keep(other, b"other")
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    assert unsealed(made(one, lambda to: to.write_bytes(b"again"))) == b"again"
    assert not usable(other)
    assert capfd.readouterr().err.count("1.o is damaged") == 1, "said once of a folder"


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.symlink_to(path.parent.parent / "outside"),
        lambda path: path.mkdir(),
        lambda path: (path.mkdir(), (path / "file").touch()),
        os.mkfifo,
    ],
    ids=["a link", "a folder", "a full folder", "a pipe"],
)
def test_what_is_no_file_is_replaced_and_cleared(compiled, put):
    path, outside = compiled / "1.o", compiled.parent / "outside"
    compiled.mkdir()
    put(path)
    assert not usable(path)
    keep(path, b"code")
    assert usable(path)
    assert not outside.exists()
    path.unlink()
    put(path)
    assert cache_facts().damaged == (path,)
    clear()
    assert not list(compiled.iterdir())


def test_use_is_remembered(compiled):
    path = compiled / "a.o"
    assert not usable(path)
    keep(path, b"code")
    used_ago(path, 1000)
    assert usable(path)
    assert time.time() - path.stat().st_mtime < 100


@pytest.fixture
def full(compiled, monkeypatch):
    """Three objects that fill the cache, the last of which was just used; and files that nobody may drop."""
    monkeypatch.setenv(made_again.VARIABLE, "1")
    for number, seconds in enumerate((3 * IN_USE_S, 2 * IN_USE_S, 0)):
        path = compiled / f"{number}.o"
        keep(path, bytes(MB // 2))
        used_ago(path, seconds)
    for name in ("cifar10.npz", "accuracy"):
        (compiled.parent / name).write_bytes(bytes(MB))
    return compiled


def test_the_least_recently_used_is_dropped(full):
    tidy()
    assert sorted(path.name for path in full.iterdir()) == ["2.o"], "1 and 2 exceed 1 MB with their hashes"
    assert (full.parent / "cifar10.npz").exists()


def test_what_was_just_used_is_never_dropped(full):
    for number in range(3):
        used_ago(full / f"{number}.o", 0)
    tidy()
    assert len(list(full.iterdir())) == 3


def test_a_process_tidies_with_its_first_file_and_then_now_and_then(compiled, monkeypatch):
    monkeypatch.setattr(made_again, "_made", iter(range(1000)))
    looks = []
    monkeypatch.setattr(made_again, "tidy", lambda: looks.append(len(list(compiled.iterdir()))))
    for number in range(made_again.LOOK_EVERY + 1):
        keep(compiled / f"{number}.so", b"code")
    assert looks == [1, made_again.LOOK_EVERY + 1]


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5", "1" * 30, "9" * 5000])
def test_a_bound_that_cannot_be_is_refused(monkeypatch, said):
    monkeypatch.setenv(made_again.VARIABLE, said)
    with pytest.raises(UserError, match=rf"OFA_TVM_CACHE_MB={said} is no number of megabytes\n.*OFA_TVM_CACHE_MB=2048"):
        tidy()


def test_doctor_says_and_clears(full, capsys):
    (full / "0.o").write_bytes(b"")
    (full / ".run-1-0123456789abcdef").mkdir()
    (full.parent / "kernels").mkdir()
    (full.parent / "kernels" / "a.o").write_text("of an older version")
    assert doctor.main(["--cache"]) == 0
    said = capsys.readouterr().out
    for words in (
        "3 files",
        "of at most 1 MB (OFA_TVM_CACHE_MB)",
        f"1: {full}/0.o",
        f"1: {full}/.run-1-",
        "--clear-cache",
    ):
        assert words in said
    assert "accuracy 1 MB, cifar10.npz 1 MB, kernels 0 kB" in said
    assert doctor.main(["--clear-cache", "--json"]) == 0
    assert (cache_facts().files, cache_facts().size_bytes, cache_facts().leftovers) == (0, 0, ())
    left = [path.name for path in sorted(full.parent.rglob("*"))]
    assert left == ["accuracy", "cifar10.npz", "compiled", "kernels"]
