"""CUDA kernels compute what the reference does, on a CPU that runs a thread for each of theirs; no GPU ran them."""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from emulated_cuda import TOLERANCE, Array, rounded_inputs, run_all_emulated, run_emulated

from ofa_tvm.compiler.cuda.emit import EmittedCuda, candidates, default_schedule
from ofa_tvm.compiler.cuda.emit.gpu_model import gpu_model
from ofa_tvm.compiler.cuda.nvrtc import cubin, cuda_compiler
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute

PRELUDE = Path(__file__).parents[2] / "ofa_tvm/compiler/native/cuda_prelude.h"
FRAME_SIZE = re.compile(rb"\x04\x11\x08\x00.{4}(.{4})", re.DOTALL)
"""What a cubin says of each function's bytes of local memory."""


def depthwise(channels, size, kernel_size, stride=1, **ends):
    return KernelSpec("depthwise", channels, channels, size, kernel_size, stride, **ends)


def dense(inputs, outputs, **ends):
    return KernelSpec("dense", inputs, outputs, 1, **ends)


def image(inputs, outputs, size, kernel_size, stride=1, **ends):
    return KernelSpec("conv", inputs, outputs, size, kernel_size, stride, **ends)


def pool(kind, channels, size, kernel_size, stride=1, **ends):
    return KernelSpec(kind, channels, channels, size, kernel_size, stride, **ends)


def half(spec):
    is_image = spec.kind == "conv" and spec.in_channels <= 3
    return replace(spec, dtype="float16", float_vectors=True, image=is_image)


KERNELS = [
    depthwise(24, 7, 3, activation="relu", bias=True),
    depthwise(16, 14, 5, activation="hard_swish", bias=True),
    depthwise(40, 7, 7, activation="silu"),
    depthwise(16, 15, 3, 2, activation="relu6", bias=True),
    depthwise(24, 9, 7, 2, activation="gelu", bias=True, residual=True),
    depthwise(16, 8, 5, 2, activation="relu", bias=True, shifted=True),
    depthwise(8, 11, 3, valid=True, bias=True),
    depthwise(72, 7, 5, activation="hard_swish", bias=True, pooled=True),
    depthwise(24, 13, 3, 2, activation="relu", bias=True, pooled=True),
    depthwise(8, 20, 3, activation="sigmoid", pooled=True),
    dense(240, 64, activation="relu", bias=True),
    dense(64, 240, activation="hard_sigmoid", bias=True),
    dense(24, 40, activation="sigmoid", bias=True),
    dense(480, 10, bias=True),
    dense(13, 5),
    dense(1280, 33, activation="hard_swish", bias=True),
    image(3, 16, 18, 3, 2, activation="hard_swish", bias=True),
    image(3, 24, 11, 3, activation="relu", bias=True),
    image(1, 16, 14, 5, 2, shifted=True, bias=True),
    image(3, 32, 12, 7, 2, activation="relu6"),
    image(3, 16, 9, 3, 2, valid=True, activation="silu", bias=True),
    image(3, 64, 17, 7, 2, activation="relu", bias=True),
    pool("max_pool", 16, 9, 3, 2),
    pool("max_pool", 24, 6, 2, 2, valid=True),
    pool("average_pool", 16, 7, 3),
    pool("average_pool", 8, 8, 2, 2, valid=True),
    KernelSpec("pool", 24, 24, 5),
    KernelSpec("pool", 200, 200, 7),
    KernelSpec("pool", 8, 8, 28),
]
PLAIN = [replace(spec, batch=batch) for spec, batch in zip(KERNELS, (1, 3) * len(KERNELS), strict=False)]
HALF = [half(replace(spec, batch=4 - spec.batch)) for spec in PLAIN]
VECTORS = [
    dense(24, 16, scaled=True, bias=True),
    dense(30, 12, scaled=True, residual=True, bias=True, activation="relu"),
    replace(dense(40, 24, scaled=True, bias=True), dtype="float16", float_vectors=True, batch=3),
]
ALL = [*PLAIN, *HALF, *VECTORS]


def threads(kernel: EmittedCuda) -> int:
    """Of all blocks."""
    return prod(kernel.launch.grid) * kernel.launch.threads


def two_kernels(spec: KernelSpec) -> list[EmittedCuda]:
    """With the best guess, and with another tile: one that shares sums in the other way, if it gives sums."""
    best, *rest = [EmittedCuda(spec, schedule) for schedule in candidates(spec, gpu_model("sm_90"))]
    others = [one for one in rest if spec.pooled and (one.scratch_bytes > 0) != (best.scratch_bytes > 0)]
    return [best, min(others or rest, key=threads)]


def error_of(spec: KernelSpec, found: list[Array], inputs: list[Array]) -> float:
    """Largest difference to the reference over the largest value."""
    wanted = compute(spec, inputs)
    assert [one.shape for one in found] == [one.shape for one in wanted]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[str, list[float]]:
    """Of both tiles of all kernels, by the kernel's key."""
    kernels = [kernel for spec in ALL for kernel in two_kernels(spec)]
    inputs = [rounded_inputs(kernel.spec) for kernel in kernels]
    made = run_all_emulated(list(zip(kernels, inputs, strict=True)), tmp_path_factory.mktemp("kernels"))
    found: dict[str, list[float]] = {}
    for kernel, outputs, read in zip(kernels, made, inputs, strict=True):
        found.setdefault(kernel.spec.key, []).append(error_of(kernel.spec, outputs, read))
    return found


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.key)
def test_a_kernel_agrees_with_the_reference(spec, errors):
    first, second = errors[spec.key]
    assert max(first, second) < TOLERANCE[spec.dtype]


def test_sums_over_blocks_come_out_again_when_called_again(tmp_path):
    spec = depthwise(24, 9, 3, bias=True, pooled=True, batch=3)
    kernel = EmittedCuda(
        spec, {"template": "cuda_depthwise", "parameters": {"groups": 2, "run": 2, "across": 2, "rows": 4}}
    )
    assert kernel.scratch_bytes > 0
    inputs = rounded_inputs(spec)
    assert error_of(spec, run_emulated(kernel, inputs, tmp_path, calls=2), inputs) < TOLERANCE["float32"]


SMALL = [
    depthwise(16, 5, 3, bias=True, activation="relu", pooled=True),
    dense(40, 10, bias=True),
    image(3, 16, 6, 3, 2, bias=True),
    KernelSpec("pool", 16, 16, 3),
]


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    specs = [half(replace(spec, batch=2)) for spec in SMALL]
    kernels = [two_kernels(spec)[0] for spec in specs]
    inputs = [rounded_inputs(spec) for spec in specs]
    for spec, made, read in zip(
        specs, run_all_emulated(list(zip(kernels, inputs, strict=True)), tmp_path, sanitizer), inputs, strict=True
    ):
        assert error_of(spec, made, read) < TOLERANCE["float16"]


REAL = [
    depthwise(64, 112, 3, 2, activation="relu", bias=True),
    depthwise(144, 56, 7, activation="relu", bias=True),
    depthwise(240, 28, 5, activation="relu", bias=True, pooled=True),
    depthwise(672, 14, 7, activation="hard_swish", bias=True, pooled=True),
    depthwise(960, 7, 5, activation="hard_swish", bias=True, pooled=True),
    depthwise(960, 14, 3, 2, activation="hard_swish", bias=True, pooled=True),
    dense(960, 240, activation="relu", bias=True),
    dense(240, 960, activation="hard_sigmoid", bias=True),
    dense(1280, 1000, bias=True),
    image(3, 16, 224, 3, 2, activation="hard_swish", bias=True),
    image(3, 64, 224, 7, 2, activation="relu", bias=True),
    pool("max_pool", 64, 112, 3, 2),
    KernelSpec("expand_depthwise", 112, 672, 14, 5, 1, "hard_swish", bias=True, pooled=True),
    KernelSpec("conv", 256, 256, 14, 3, activation="relu", bias=True, residual=True),
    KernelSpec("conv", 64, 64, 56, 3, activation="relu", bias=True, batch=64),
    KernelSpec("conv", 24, 96, 56, 5, 2, activation="hard_swish", bias=True),
    KernelSpec("conv", 112, 672, 14, activation="hard_swish", bias=True, batch=64),
    KernelSpec("pool", 960, 960, 7),
]


@pytest.mark.skipif(cuda_compiler() is None, reason="neither NVRTC nor nvcc is installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_no_kernel_needs_local_memory(architecture):
    specs = [*REAL, *map(half, REAL)]
    source = PRELUDE.read_text() + "".join(
        EmittedCuda(spec, default_schedule(spec, gpu_model(architecture))).source for spec in specs
    )
    frames = [int.from_bytes(size, "little") for size in FRAME_SIZE.findall(cubin(source, architecture))]
    assert frames == [0] * len(specs)
