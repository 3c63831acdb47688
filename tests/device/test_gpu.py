"""What needs an NVIDIA GPU: kernels and subnets compiled for it run there and compute what they should."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.cuda.nvrtc import cuda_compiler
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.writer import SUBNET_TOLERANCE, PackWriter
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.machine import local_gpu
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.tuner.candidate import Candidate

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(local_gpu() is None, reason="no NVIDIA GPU: nvidia-smi does not answer"),
    pytest.mark.skipif(cuda_compiler() is None, reason="neither NVRTC nor nvcc is installed"),
]
REPEATED = 200
"""Calls that must agree to the last bit: a kernel that does not wait for the one before would show, in time."""


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["cuda", "cuda-templates"])
def test_every_kernel_of_a_pack_computes_what_it_should(tmp_path, name, dtype):
    """The pack's way, with this machine's GPU as the far device."""
    target, pack = load_target(name, device="pack", dtype=dtype), tmp_path / "pack"
    kinds: dict[tuple[str, bool, bool, bool], KernelSpec] = {}
    for spec in codegen_of(target).kernels(MBV3_CIFAR, (28,)).values():
        kinds.setdefault((spec.kind, spec.scaled, spec.residual, spec.pooled), spec)
    with PackWriter(target, pack) as writer:
        for spec in kinds.values():
            for one in (spec, replace(spec, batch=2)):
                assert not writer.add(one, [Candidate(one.key, "default", {})])
        writer.finish()
    done = subprocess.run([sys.executable, "measure.py"], cwd=pack, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records, damaged = pack_files.read_lines(pack / pack_files.RESULTS)
    assert damaged == 0
    assert records[0]["device"]["driver_version"]
    failed = [json.dumps(record) for record in records[1:] if record["status"] != "ok"]
    assert not failed


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 8])
def test_a_subnet_of_templates_computes_what_it_should_whether_kernels_overlap_or_not(tmp_path, dtype, batch):
    target = load_target("cuda-templates", batch=batch, dtype=dtype)
    network = MBV3_CIFAR.network(MBV3_CIFAR.largest)
    weights = random_weights(network)
    codegen_of(target).build(network, weights, {}, tmp_path / "model.so")
    model = LoadedModel(tmp_path / "model.so")
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    expected, found = network_logits(network, weights, images), model(images)
    assert np.abs(found - expected).max() < SUBNET_TOLERANCE[dtype] * np.abs(expected).max()
    for overlaps in (0, 1):
        model._module["overlap"](overlaps)
        for _ in range(REPEATED):
            np.testing.assert_array_equal(model(images), found)


def test_calls_of_a_subnet_are_metered_there(tmp_path):
    """Volta and later count; a call draws 10 to 1000 W as long as it takes."""
    target, pack = load_target("cuda", device="pack"), tmp_path / "pack"
    with PackWriter(target, pack) as writer:
        assert not writer.add_subnet(MBV3_CIFAR, MBV3_CIFAR.smallest, tmp_path, "default")
        writer.finish()
    subprocess.run([sys.executable, "measure.py"], cwd=pack, check=True)
    records, _ = pack_files.read_lines(pack / pack_files.RESULTS)
    (answer,) = records[1:]
    assert answer["status"] == "ok"
    assert 10 < answer["energy_mj"] / answer["times_ms"][0] < 1000
