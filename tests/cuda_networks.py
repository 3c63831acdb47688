"""Runs a whole network of kernels from the CUDA templates on this CPU, by a stand-in for NVIDIA's driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import build_driver, emulated_cubin

from ofa_tvm.compiler.cuda import code
from ofa_tvm.compiler.cuda.assembler import assemble, make_plan
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.support.dtype import DType

MOBILE = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
RESIDUAL = NetworkSpec(
    32,
    3,
    10,
    (
        LayerSpec("stem", "conv", INPUT, 3, 16, 32, 7, 2, "relu", norm=True),
        LayerSpec("stem_pool", "max_pool", "stem", 16, 16, 16, 3, 2),
        LayerSpec("first", "conv", "stem_pool", 16, 16, 8, 3, 1, "relu", norm=True),
        LayerSpec("second", "conv", "first", 16, 16, 8, 3, 1, "relu", norm=True, residual="stem_pool"),
        LayerSpec("shortcut", "conv", "second", 16, 32, 8, 1, 2, norm=True),
        LayerSpec("third", "conv", "second", 16, 32, 8, 3, 2, "relu", norm=True),
        LayerSpec("fourth", "conv", "third", 32, 32, 4, 3, 1, "relu", norm=True, residual="shortcut"),
        LayerSpec("mean", "average_pool", "fourth", 32, 32, 4, 2, 2, padding="none"),
        LayerSpec("mean_shortcut", "conv", "mean", 32, 48, 2, norm=True),
        LayerSpec("expand", "conv", "fourth", 32, 40, 4, 5, 2, "hard_swish", norm=True),
        LayerSpec("gate", "squeeze_excite", "expand", 40, 40, 2, hidden_channels=8),
        LayerSpec("project", "conv", "gate", 40, 48, 2, norm=True, residual="mean_shortcut"),
        LayerSpec("pool", "global_pool", "project", 48, 48, 2),
        LayerSpec("classifier", "linear", "pool", 48, 10, 1, bias=True),
    ),
)
"""What residual networks have: wide windows, residuals behind them, windows of pooling, strides without a window."""
RUN = """
import ctypes, sys
import numpy as np
library, images = ctypes.CDLL(sys.argv[1]), np.load(sys.argv[2])
logits = np.zeros((library.ofa_tvm_batch(), library.ofa_tvm_classes()), np.float32)
for _ in range(2):  # sums over blocks leave their memory as it was
    error = library.ofa_tvm_run(*(ctypes.c_void_p(array.ctypes.data) for array in (images, logits)))
    assert not error, error
np.save(sys.argv[3], logits)
"""


def assert_computed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: NetworkSpec,
    architecture: str,
    dtype: DType,
    batch: int,
) -> None:
    """Whether a small network computes what numpy does, twice."""
    monkeypatch.setattr(code, "cubin", emulated_cubin(tmp_path))
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "cache"))
    driver = tmp_path / "driver"
    driver.mkdir()
    build_driver(driver)
    library, weights = tmp_path / "model.so", random_weights(network)
    assemble(make_plan(network, {}, architecture, batch, dtype), weights, "gcc", library)
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", RUN, str(library), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "FAKE_CUDA_ARCHITECTURE": architecture[3:]}
    subprocess.run(command, env=environment, check=True, timeout=100)
    expected = network_logits(network, weights, images)
    apart = np.abs(np.load(tmp_path / "logits.npy") - expected).max() / np.abs(expected).max()
    assert apart < {"float32": 1e-4, "float16": 3e-2}[dtype]
