"""float16 kernels and networks for 64-bit ARM agree with float32 in emulation, as far as sums in float16 can."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.emulation.model import EmulatedModel
from ofa_tvm.devices.estimate import jobs
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.numpy_reference import compute, network_logits
from ofa_tvm.graph.parity import MAX_FLOAT16_ERROR, relative_error
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.tuner.job import KernelJob

MISSING = [tool for tool in ("qemu-aarch64", "aarch64-linux-gnu-g++") if shutil.which(tool) is None]
pytestmark = [pytest.mark.arm, pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")]
TARGET = load_target("arm", device="estimate", dtype="float16")


def schedule(spec: KernelSpec) -> KernelSchedule:
    return candidates(spec, ObjectCache(TARGET.attributes).features)[0]


def float16(
    kind: Any, inputs: int, outputs: int, size: int, kernel: int = 1, stride: int = 1, **how: Any
) -> KernelSpec:
    how = {"bias": "pool" not in kind, "dtype": "float16", "float_vectors": True, **how}
    return KernelSpec(kind, inputs, outputs, size, kernel, stride, **how)


KERNELS = [
    float16("conv", 40, 56, 7, scaled=True, residual=True),
    float16("conv", 16, 70, 5, activation="hard_swish", pooled=True),
    float16("conv", 14, 23, 3, activation="gelu"),
    float16("conv", 3, 24, 17, 3, 2, activation="hard_swish", image=True),
    float16("conv", 24, 16, 6, 3, activation="relu", residual=True),
    float16("dense", 44, 71, 1, activation="relu6"),
    float16("dense", 9, 200, 1, activation="hard_sigmoid"),
    float16("depthwise", 40, 40, 9, 5, 2, activation="hard_swish", pooled=True),
    float16("expand_depthwise", 24, 70, 7, 7, 2, activation="hard_swish", pooled=True),
    float16("expand_depthwise", 12, 40, 10, 3, activation="silu"),
    float16("pool", 40, 40, 5),
    float16("max_pool", 24, 24, 9, 3, 2),
    float16("average_pool", 20, 20, 8, 2, 2, valid=True),
]
"""Channels that fill whole registers and such that do not, odd numbers of pixels."""


@pytest.mark.seconds(12)
def test_kernels_agree_with_float32():
    for spec in KERNELS:
        result = jobs.check(KernelJob(spec, schedule(spec), TARGET, None))
        assert result.status == "ok", f"{spec.key}: {result.error}"
        assert result.cpu == "cortex-a76"


def test_one_wrong_weight_is_seen(monkeypatch):
    def of_another_weight(spec, inputs):
        other = [array.copy() for array in inputs]
        other[1].ravel()[3] *= -1
        return compute(spec, other)

    spec = float16("conv", 16, 24, 4)
    monkeypatch.setattr(jobs, "compute", of_another_weight)
    assert jobs.check(KernelJob(spec, schedule(spec), TARGET, None)).status == "wrong_output"


LAYERS = (
    LayerSpec("stem", "conv", INPUT, 3, 16, 16, 3, 2, "hard_swish", bias=True),
    LayerSpec("expand", "conv", "stem", 16, 48, 8, activation="relu", bias=True),
    LayerSpec("deep", "depthwise", "expand", 48, 48, 8, 5, 1, "relu", bias=True),
    LayerSpec("gate", "squeeze_excite", "deep", 48, 48, 8, hidden_channels=16),
    LayerSpec("project", "conv", "gate", 48, 16, 8, bias=True, residual="stem"),
    LayerSpec("last", "conv", "project", 16, 96, 8, activation="hard_swish", bias=True),
    LayerSpec("pool", "global_pool", "last", 96, 96, 8),
    LayerSpec("mix", "conv", "pool", 96, 64, 1, activation="hard_swish"),
    LayerSpec("head", "linear", "mix", 64, 10, 1, bias=True),
)


@pytest.mark.seconds(5)
def test_a_network_agrees_with_float32(tmp_path):
    network = NetworkSpec(16, 3, 10, LAYERS)
    weights, library = untrained_weights(network, "float16"), tmp_path / "subnet.so"
    codegen_of(TARGET).build(network, weights, {}, library)
    images = np.random.default_rng(0).standard_normal((1, network.resolution, network.resolution, 3), np.float32)
    logits = EmulatedModel(library, TARGET.target.mtriple, TARGET.toolchain.linker)(images)
    assert 1e-5 < relative_error(logits, network_logits(network, weights, images)) < MAX_FLOAT16_ERROR / 2
