"""Whole networks of kernels from the CUDA templates in every type and batch, run on this CPU."""

from __future__ import annotations

import pytest
from cuda_networks import MOBILE, RESIDUAL, assert_computed


@pytest.mark.parametrize("network", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("dtype", "batch"), [("float32", 1), ("float32", 2), ("float16", 1), ("float16", 2)])
def test_a_network_computes_what_it_should(tmp_path, monkeypatch, network, architecture, dtype, batch):
    assert_computed(tmp_path, monkeypatch, network, architecture, dtype, batch)
