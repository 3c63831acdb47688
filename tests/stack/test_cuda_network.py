"""A whole network of kernels from the CUDA templates; ``tests/soak/test_cuda_networks.py`` has others."""

from __future__ import annotations

from cuda_networks import MOBILE, assert_computed


def test_a_network_on_tensor_cores_and_in_clusters_computes_what_it_should(tmp_path, monkeypatch):
    assert_computed(tmp_path, monkeypatch, MOBILE, "sm_90", "float16", 1)
