"""bfloat16 kernels agree with their reference within a step, and a CPU without the instructions is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_tvm.compiler.codegen import auto_types, codegen_of
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.vector_ir import pack_panels
from ofa_tvm.compiler.cpu.emit.window import Rows
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, generate
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.devices.workers.kernel_jobs import BFLOAT16_TOLERANCE, relative_error
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, network_logits, random_inputs
from ofa_tvm.graph.parity import MAX_BFLOAT16_ERROR
from ofa_tvm.graph.parity import relative_error as logits_error
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.hardware import target_files
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SPACES
from ofa_tvm.support.errors import UserError

needs_bfloat16 = pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this machine lacks AVX512_BF16")
CHIPS = ("znver4", "sapphirerapids", "cooperlake")


def bfloat16(
    kind: Any, inputs: int, outputs: int, size: int, kernel: int = 1, stride: int = 1, **how: Any
) -> KernelSpec:
    has_bias = "pool" not in kind
    return KernelSpec(kind, inputs, outputs, size, kernel, stride, dtype="bfloat16", bias=has_bias, **how)


KERNELS = [
    bfloat16("conv", 12, 40, 6, activation="hard_swish"),
    bfloat16("conv", 144, 24, 5, residual=True),
    bfloat16("conv", 40, 56, 7, scaled=True, residual=True),
    bfloat16("conv", 16, 70, 5, activation="hard_swish", pooled=True),
    bfloat16("conv", 14, 23, 3, activation="gelu"),
    bfloat16("dense", 96, 40, 1, activation="relu"),
    bfloat16("dense", 64, 200, 1, activation="hard_swish"),
    bfloat16("dense", 48, 71, 1, activation="hard_sigmoid"),
    bfloat16("depthwise", 16, 16, 14, 3, activation="relu"),
    bfloat16("depthwise", 40, 40, 9, 5, 2, activation="hard_swish", pooled=True),
    bfloat16("expand_depthwise", 12, 40, 10, 5, activation="relu", pooled=True),
    bfloat16("expand_depthwise", 16, 96, 7, 3, activation="hard_swish"),
    bfloat16("expand_depthwise", 16, 70, 7, 7, 2, activation="hard_swish", pooled=True),
    bfloat16("expand_depthwise", 24, 64, 6, 5, 2, activation="relu6", shifted=True),
    bfloat16("expand_depthwise", 8, 48, 2, 7, activation="relu"),
    bfloat16("expand_depthwise", 32, 32, 1, 3, activation="relu"),
    bfloat16("expand_depthwise", 8, 16, 15, 7, activation="none"),
    bfloat16("expand_depthwise", 8, 16, 12, 3, 2, activation="silu"),
    bfloat16("conv", 3, 16, 17, 3, 2, activation="hard_swish"),
    bfloat16("pool", 40, 40, 5),
    bfloat16("max_pool", 24, 24, 9, 3, 2),
    bfloat16("average_pool", 24, 24, 8, 2, 2, valid=True),
]


def cache_for(mcpu: str, threads: int, folder: Path) -> ObjectCache:
    return ObjectCache({"kind": "llvm", "mcpu": mcpu, "num-cores": threads}, folder)


@needs_bfloat16
@pytest.mark.seconds(20)
@pytest.mark.parametrize(("threads", "rank"), [(1, 0), (3, -1)])
def test_kernels_agree_with_the_reference(threads, rank, tmp_path):
    cache = cache_for("znver4" if "avx512_vbmi2" in cpu_flags() else "cooperlake", threads, tmp_path)
    for spec in KERNELS:
        inputs = random_inputs(spec)
        schedule = candidates(spec, cache.features)[rank]
        runner = KernelRunner(cache.kernel(spec, schedule), cache.get(spec, schedule), threads)
        error = relative_error(runner.run(inputs), compute(spec, inputs))
        assert error < BFLOAT16_TOLERANCE, f"{spec.key} {schedule}"


@needs_bfloat16
def test_one_wrong_weight_is_seen(tmp_path):
    cache = cache_for("znver4" if "avx512_vbmi2" in cpu_flags() else "cooperlake", 1, tmp_path)
    for spec in (KERNELS[0], KERNELS[5], KERNELS[10]):
        inputs = random_inputs(spec)
        expected = compute(spec, inputs)
        kernel = cache.kernel(spec)
        inputs[1] = inputs[1].copy()
        inputs[1].ravel()[3] ^= 0x8000  # its sign
        runner = KernelRunner(kernel, cache.get(spec, kernel.schedule), 1)
        assert relative_error(runner.run(inputs), expected) > BFLOAT16_TOLERANCE


def innermost_loops(lines: list[str]) -> list[list[str]]:
    """The lines of each loop of assembly that has no other label in it."""
    labels = {line.split(":")[0]: at for at, line in enumerate(lines) if line.startswith(".LBB")}
    jumps = [(at, line.split()[-1]) for at, line in enumerate(lines) if line.strip().startswith("j")]
    loops = [(labels[label], at) for at, label in jumps if labels.get(label, at) < at]
    return [lines[start:end] for start, end in loops if not any(start < at < end for at in labels.values())]


@pytest.mark.seconds(10)
@pytest.mark.parametrize("mcpu", CHIPS)
def test_products_are_instructions_and_tiles_stay_in_registers(mcpu, tmp_path):
    cache = cache_for(mcpu, 1, tmp_path)
    for spec in (
        bfloat16("conv", 112, 672, 14, activation="hard_swish"),
        bfloat16("expand_depthwise", 40, 240, 14, 5, activation="hard_swish"),
        bfloat16("expand_depthwise", 24, 144, 14, 7, activation="relu"),
        bfloat16("dense", 960, 1280, 1, activation="hard_swish"),
    ):
        loops = innermost_loops(generate(cache.kernel(spec), cache.target).inspect_source("s").splitlines())
        products = [loop for loop in loops if any("vdpbf16ps" in line for line in loop)]
        assert products, spec.key
        for line in (line for loop in products for line in loop):
            assert "call" not in line and not ("rsp" in line and "zmm" in line), f"{spec.key}: {line}"


@needs_bfloat16
@pytest.mark.seconds(10)
@pytest.mark.parametrize("name", ["mbv3-cifar", "efficientnet-lite"])
def test_a_library_computes_the_reference(name, tmp_path):
    space, target = SPACES[name], load_target("x86", dtype="bfloat16")
    network = space.network(space.smallest)
    images = np.random.default_rng(0).standard_normal((2, network.resolution, network.resolution, 3), np.float32)
    weights = untrained_weights(network, "bfloat16")
    library = tmp_path / "subnet.so"
    assemble(network, weights, {}, ObjectCache(target.attributes), library, 2, target.toolchain.linker)
    logits, exact = load_anew(library)(images), network_logits(network, untrained_weights(network, "float32"), images)
    assert logits_error(logits, network_logits(network, weights, images)) < MAX_BFLOAT16_ERROR / 2
    assert 1e-4 < logits_error(logits, exact) < 0.1


@pytest.mark.parametrize("device", ["estimate", "pack", "rpc:127.0.0.1:9190"])
def test_a_target_without_the_instructions_is_told(device):
    for name, hint in (("raspberry-pi-4", "leave out --dtype"), ("arm", "give --dtype int8, or leave --dtype out")):
        target = load_target(name, device=device, dtype="bfloat16")
        with pytest.raises(UserError, match="no instructions for bfloat16: bfloat16 kernels need AVX512_BF16") as no:
            codegen_of(target)
        assert target.target.mcpu in str(no.value)
        assert no.value.hint == hint
        assert "bfloat16" not in auto_types(target)


def test_this_cpu_without_the_instructions_is_told(monkeypatch):
    monkeypatch.setattr(target_files, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(UserError, match=r"this CPU \(.+\) has no AVX512_BF16, which bfloat16 needs"):
        load_target("x86", dtype="bfloat16")


def test_a_gpu_is_told():
    with pytest.raises(UserError, match="bfloat16 is for CPUs"):
        load_target("cuda-sm80", device="pack", dtype="bfloat16")


def test_kernels_for_a_cpu_without_the_instructions_are_not_emitted():
    with pytest.raises(ValueError, match="bfloat16 kernels need AVX512_BF16"):
        candidates(KERNELS[0], CpuFeatures(16, 32, 1, "vnni"))


def test_panels_hold_pairs_of_inputs():
    weight = np.arange(12, dtype=np.uint16).reshape(4, 3)
    assert pack_panels(weight, 2).tolist() == [0, 3, 1, 4, 6, 9, 7, 10, 2, 5, 8, 11]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_each_tap_of_a_window_is_in_one_word_of_a_phase(kernel_size, shifted):
    spec = bfloat16("expand_depthwise", 8, 8, 8, kernel_size, 2 if shifted else 1, shifted=shifted)
    rows = Rows(spec, 2)
    words = rows.pack(np.ones((kernel_size, kernel_size, 8), np.uint16))
    assert words.size == 2 * rows.words * 8
    assert [int(phase.sum()) for phase in words] == [kernel_size**2 * 8] * 2
