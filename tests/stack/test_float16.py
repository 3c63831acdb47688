"""float16 on CPUs: code for ARM multiplies eight lanes at a time and keeps its tiles in registers; others are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofa_tvm.compiler.codegen import auto_types, codegen_of
from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, generate
from ofa_tvm.devices.workers.kernel_jobs import tolerance
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.errors import UserError

CHIPS = ("cortex-a76", "cortex-a78")


def float16(
    kind: Any, inputs: int, outputs: int, size: int, kernel: int = 1, stride: int = 1, **how: Any
) -> KernelSpec:
    return KernelSpec(
        kind, inputs, outputs, size, kernel, stride, bias=True, dtype="float16", float_vectors=True, **how
    )


KERNELS = [
    float16("conv", 112, 672, 14, activation="hard_swish"),
    float16("expand_depthwise", 40, 240, 14, 5, activation="hard_swish", pooled=True),
    float16("depthwise", 16, 16, 28, 3, activation="relu"),
    float16("dense", 960, 1280, 1, activation="hard_swish"),
]


def cache_for(mcpu, folder):
    return ObjectCache({"kind": "llvm", "mcpu": mcpu, "mtriple": "aarch64-linux-gnu", "num-cores": 1}, folder)


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """The lines of each loop of ARM assembly that has no other label in it."""
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".LBB")}
    jumps = [(at, line.split()[-1]) for at, line in enumerate(lines) if line.strip().startswith(("b.", "cb", "tb"))]
    loops = [(labels[label], at) for at, label in jumps if labels.get(label, at) < at]
    return [lines[start:end] for start, end in loops if not any(start < at < end for at in labels.values())]


@pytest.mark.seconds(4)
@pytest.mark.parametrize("mcpu", CHIPS)
def test_products_have_eight_lanes_and_tiles_stay_in_registers(mcpu, tmp_path):
    cache = cache_for(mcpu, tmp_path)
    for spec in KERNELS:
        loops = innermost_loops(generate(cache.kernel(spec), cache.target).inspect_source("s").splitlines())
        products = [loop for loop in loops if any("fmla" in line and ".8h" in line for line in loop)]
        assert products, spec.key
        for line in (line for loop in products for line in loop):
            assert "[sp" not in line and "fcvt" not in line and "\tbl\t" not in line, f"{spec.key}: {line}"


@pytest.mark.parametrize("device", ["estimate", "pack", "rpc:127.0.0.1:9190"])
@pytest.mark.parametrize(
    ("name", "hint"), [("raspberry-pi-4", "leave out --dtype"), ("arm-cortex-a53", "leave out --dtype")]
)
def test_a_target_without_the_arithmetic_is_told(name, hint, device):
    target = load_target(name, device=device, dtype="float16")
    with pytest.raises(UserError, match="has no instructions for float16: float16 kernels need half-precision") as no:
        codegen_of(target)
    assert target.target.mcpu in str(no.value)
    assert no.value.hint == hint
    assert "float16" not in auto_types(target)


def test_auto_has_it_where_the_cpu_has_it():
    assert auto_types(load_target("arm", device="estimate")) == ("float32", "float16", "int8")


def test_this_cpu_is_told():
    with pytest.raises(UserError, match=r"has no half-precision arithmetic .+, which float16 needs") as no:
        load_target("x86", dtype="float16")
    assert "bfloat16 or int8" in no.value.hint


def test_kernels_for_a_cpu_without_the_arithmetic_are_not_emitted():
    with pytest.raises(ValueError, match="float16 kernels need half-precision"):
        candidates(KERNELS[0], CpuFeatures(4, 32, 1, "sdot"))


def test_a_layer_that_reads_another_type_is_named():
    stem = LayerSpec("stem", "conv", INPUT, 3, 16, 8, 3, 2, "relu", bias=True)
    head = LayerSpec("head", "linear", "stem", 16, 10, 4, bias=True)
    with pytest.raises(UserError, match="layer head: no float16 kernel reads float16 numbers, which stem has"):
        fused_steps(NetworkSpec(8, 3, 10, (stem, head)), "float16")


def test_vectors_keep_what_float16_cannot_hold(tmp_path):
    spec = float16("dense", 24, 16, 1)
    kernel = cache_for("cortex-a76", tmp_path).kernel(spec)
    weights, bias = np.full((24, 16), 1e-5, np.float32), np.ones(16, np.float32)
    packed, _ = kernel.pack([weights, bias])
    assert packed.dtype == np.float16
    np.testing.assert_allclose(packed.astype(np.float32) / 256, 1e-5, rtol=1e-3)


def test_longer_sums_may_differ_more():
    assert tolerance(KERNELS[2]) < tolerance(KERNELS[0]) < 0.02
