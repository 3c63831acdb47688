"""What the doctor says of NVIDIA targets: each thing that is missing, with what to do about it."""

from __future__ import annotations

import pytest

from ofa_tvm.checks import cuda_checks as checks
from ofa_tvm.checks.board_checks import board_checks
from ofa_tvm.checks.machine_checks import Check
from ofa_tvm.devices.pack import runtime as pack_runtime
from ofa_tvm.hardware.machine import LocalGpu
from ofa_tvm.hardware.target_files import is_gpu_target

H100 = LocalGpu("NVIDIA H100", "sm_90", "580.65.06")


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """A compiler that is not there, so that nothing imports TVM."""
    monkeypatch.setattr(checks, "_compiler", lambda: Check("CUDA compiler", "fail", "none", "install one"))


def found(name, device=None):
    return {check.name: check for check in checks.cuda_checks(name, device)}


def test_other_targets_have_no_gpu_checks():
    assert list(checks.cuda_checks("x86")) == list(checks.cuda_checks("no-such-target")) == []
    assert list(board_checks("cuda-sm90")) == []


def test_the_kind_of_a_target_is_known_without_its_gpu(tmp_path):
    assert is_gpu_target("cuda")
    assert is_gpu_target("jetson-orin")
    assert not is_gpu_target("x86")
    (tmp_path / "bad.toml").write_bytes(b"\xff = [")
    assert not is_gpu_target(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize(("name", "status"), [("cuda", "fail"), ("cuda-sm90", "warn")])
def test_a_missing_gpu_matters_where_code_should_run_here(monkeypatch, name, status):
    monkeypatch.setattr(checks, "local_gpu", lambda: None)
    assert found(name)["GPU"].status == status
    assert found(name)["CUDA compiler"].status == "fail"


def test_an_old_driver_and_a_missing_runtime_are_told(monkeypatch):
    monkeypatch.setattr(checks, "local_gpu", lambda: LocalGpu("NVIDIA Old", "sm_80", "535.1"))
    monkeypatch.setattr(checks, "gpu_millijoules", lambda: None)
    monkeypatch.setattr(pack_runtime, "cuda_runtime", lambda: None)
    of = found("cuda-sm80")
    assert of["GPU"].status == "ok"
    assert "580 or newer" in of["GPU driver"].fix
    assert "counts none" in of["GPU energy"].found
    assert "nvidia-cuda-runtime" in of["CUDA runtime"].fix


def test_with_a_gpu_everything_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "local_gpu", lambda: H100)
    monkeypatch.setattr(checks, "gpu_millijoules", lambda: 1.0)
    monkeypatch.setattr(pack_runtime, "cuda_runtime", lambda: tmp_path)
    of = found("cuda-sm90")
    assert of["GPU"].found == "NVIDIA H100, sm_90, driver 580.65.06"
    assert "GPU driver" not in of
    assert of["GPU energy"].status == of["CUDA runtime"].status == "ok"
