"""Checks of a target that runs elsewhere, tool by tool."""

from __future__ import annotations

import pytest

from ofa_tvm import doctor
from ofa_tvm.checks.board_checks import board_checks
from ofa_tvm.checks.machine_checks import target_checks
from ofa_tvm.hardware.machine import cpu_flags

needs_int8 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")


def _never(target, kernel, candidate):
    raise AssertionError("nothing of this target runs here")


def test_a_target_with_boards_is_checked_tool_by_tool(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("OFA_TVM_TRACKER", raising=False)
    found = {check.name: check for check in board_checks("arm")}
    assert [check.status for check in target_checks("arm", _never)] == ["ok"], "nothing runs on this machine"
    for name, package in (("cross compiler", "g++-aarch64-linux-gnu"), ("qemu", "qemu-user"), ("llvm-mca", "llvm-19")):
        assert found[name].status == "fail"
        assert package in found[name].fix
    assert found["boards"].status == "warn"
    assert "tvm.exec.rpc_server" in found["boards"].fix
    assert "tiny kernel" not in found, "it cannot be compiled"


def test_a_tracker_that_does_not_answer_is_one_failed_check(monkeypatch):
    monkeypatch.setenv("PATH", "")
    *tools, tracker = board_checks("arm", "rpc:127.0.0.1:9")
    assert (tracker.name, tracker.status) == ("tracker", "fail")
    assert "tvm.exec.rpc_tracker" in tracker.fix
    assert {check.status for check in tools if check.name != "cross compiler"} <= {"warn", "ok"}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("int8", marks=needs_int8)])
def test_this_machine_passes_its_own_check(dtype):
    """As the command checks it: a worker starts, compiles a tiny kernel and compares what it computes."""
    found = {check.name: check for check in target_checks("x86", doctor._trial, dtype=dtype)}
    assert found["tiny kernel"].status == "ok", found["tiny kernel"]
