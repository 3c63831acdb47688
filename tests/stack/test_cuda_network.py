"""Whole networks of kernels from the CUDA templates; ``tests/soak/test_cuda_networks.py`` has others."""

from __future__ import annotations

import pytest
from cuda_networks import MOBILE, RESIDUAL, assert_computed


@pytest.mark.parametrize("network", [MOBILE, RESIDUAL], ids=["mobile", "residual"])
def test_a_network_on_tensor_cores_and_in_clusters_computes_what_it_should(tmp_path, monkeypatch, network):
    assert_computed(tmp_path, monkeypatch, network, "sm_90", "float16", 1)
