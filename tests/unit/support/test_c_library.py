"""Compilers and libraries: whose fault it is when one fails, and what to do."""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

import pytest

from ofa_tvm.support import c_library
from ofa_tvm.support.c_library import load_library, native_library, optional_library, run_compiler, unloadable
from ofa_tvm.support.errors import HostFault, OfaTvmError, UserError


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("ld: final link failed: No space left on device", HostFault, r"No space left on device\n.*TMPDIR"),
        ("g++: vfork: Resource temporarily unavailable", HostFault, r"temporarily unavailable\n.*ulimit -u"),
        ("ld: cannot find -lm: Too many open files", HostFault, r"Too many open files\n.*ulimit -n"),
        ("a.c:1: error: expected ;", OfaTvmError, r"^it failed: a.c:1: error: expected ;$"),
        ("", OfaTvmError, "^it failed: it ended with 3$"),
    ],
)
def test_a_failing_compiler(said, error, words):
    with pytest.raises(error, match=words) as caught:
        run_compiler(["sh", "-c", f"echo '{said}' >&2; exit 3" if said else "exit 3"], "it failed")
    assert type(caught.value) is error


def test_a_library_on_a_disk_from_which_nothing_may_run(tmp_path, monkeypatch):
    path = tmp_path / "a.so"
    path.write_bytes(b"no library")
    with pytest.raises(OfaTvmError, match=f"{path} cannot be loaded: "):
        load_library(path)
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(HostFault, match=r"mounted noexec\)\n.*OFA_TVM_CACHE .*, TMPDIR .*, --out"):
        load_library(path)


def test_a_path_that_is_no_text(tmp_path):
    error = UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed")
    assert isinstance(unloadable(tmp_path / "caf\udce9.so", error), UserError)


def test_without_a_compiler_kernels_cannot_be_timed_and_training_goes_on(monkeypatch):
    monkeypatch.setenv("PATH", "")
    sources = ("ofa_tvm.compiler.native", ("stack_place.h", "timer.c"), "-pthread")
    for function in (native_library, optional_library):
        function.cache_clear()
    with pytest.raises(HostFault, match=r"no C compiler was found\n.*apt install g\+\+"):
        native_library(*sources)
    assert optional_library(*sources) is None
    optional_library.cache_clear()


def test_a_damaged_library_is_built_again(tmp_path, monkeypatch, capfd):
    if c_library.c_compiler() is None:
        pytest.skip("no C compiler")
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    sources = ("ofa_tvm.compiler.native", ("stack_place.h", "timer.c"), "-pthread")
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    native_library.cache_clear()
    native_library(*sources)
    (path,) = (tmp_path / "compiled").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    native_library.cache_clear()
    native_library(*sources)
    native_library.cache_clear()
    assert capfd.readouterr().err == f"{path} is damaged or of an earlier version, and made again, as others may be\n"
    assert len(path.read_bytes()) == len(whole)
    assert loaded == [str(path)] * 2
