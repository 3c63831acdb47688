"""Int8 kernels for 64-bit ARM, by dot products and by matrix products, are the reference bit for bit in emulation."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.devices.estimate.jobs import check
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.tuner.job import KernelJob

MISSING = [tool for tool in ("qemu-aarch64", "aarch64-linux-gnu-g++") if shutil.which(tool) is None]
pytestmark = [pytest.mark.arm, pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")]


def int8(kind: Any, inputs: int, outputs: int, size: int, **how: Any) -> KernelSpec:
    return KernelSpec(kind, inputs, outputs, size, dtype="int8", bias=True, **how)


KERNELS = [
    int8("conv", 40, 56, 7, scaled=True, residual=True),
    int8("conv", 16, 72, 5, activation="hard_swish", pooled=True),
    int8("conv", 3, 24, 17, kernel_size=3, stride=2, activation="hard_swish"),
    int8("dense", 44, 71, 1, activation="relu6"),
    int8("depthwise", 40, 40, 9, kernel_size=5, stride=2, activation="hard_swish", pooled=True),
    int8("expand_depthwise", 24, 72, 7, kernel_size=7, stride=2, activation="hard_swish", pooled=True),
    int8("expand_depthwise", 12, 40, 10, kernel_size=3, activation="relu"),
    int8("quantise", 44, 44, 5),
    int8("dequantise", 44, 44, 5),
]
"""Inputs that fill whole registers and such that do not, odd numbers of pixels, rows that fill no group."""


@pytest.mark.seconds(10)
@pytest.mark.parametrize("mcpu", ["cortex-a76", "neoverse-n2"])
def test_kernels_are_the_reference_bit_for_bit(mcpu):
    arm = load_target("arm", device="estimate", dtype="int8")
    target = arm.model_copy(update={"target": arm.target.model_copy(update={"mcpu": mcpu})})
    features = ObjectCache(target.attributes).features
    for spec in KERNELS:
        result = check(KernelJob(spec, candidates(spec, features)[0], target, None))
        assert result.status == "ok", f"{spec.key}: {result.error}"
