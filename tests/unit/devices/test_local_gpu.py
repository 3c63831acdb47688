"""A GPU of this machine, where there is none."""

from __future__ import annotations

import pytest

from ofa_tvm import devices
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.errors import UserError


def test_without_a_gpu_none_is_opened(monkeypatch):
    monkeypatch.setattr(devices, "local_gpu", lambda: None)
    with pytest.raises(UserError, match=r"target cuda-sm90 is this machine's GPU: no NVIDIA GPU was found here"):
        devices.open_device(load_target("cuda-sm90", device="local"))
