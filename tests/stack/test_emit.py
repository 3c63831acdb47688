"""Emitted kernels agree with the reference: whole and odd tiles, any vector width, alone and shared by threads."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from ofa_tvm.compiler.cpu.emit import EmittedKernel, candidates
from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures, cpu_features
from ofa_tvm.compiler.cpu.emit.vector_ir import Vector, pack_panels, vectors
from ofa_tvm.compiler.cpu.kernel_runner import KernelRunner
from ofa_tvm.compiler.cpu.object_cache import ObjectCache, generate
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import Activation
from ofa_tvm.graph.numpy_reference import compute, random_inputs
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import FUSED, MBV3, MBV3_CIFAR
from ofa_tvm.support.made_again import is_whole

MCPU = load_target("x86").target.mcpu


def target(threads=1):
    return Target({"kind": "llvm", "mcpu": MCPU, "num-cores": threads})


def error_of(spec, template, parameters, features, folder):
    """Largest difference to the reference over the largest value."""
    kernel = EmittedKernel(spec, {"template": template, "parameters": parameters}, features)
    code = folder / "kernel.o"
    generate(kernel, target()).write_to_file(str(code), "o")
    inputs = random_inputs(spec)
    found, wanted = KernelRunner(kernel, code, features.cores).run(inputs), compute(spec, inputs)
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, wanted, strict=True))


WINDOWS = list(itertools.product((3, 5, 7), (1, 2)))
WIDTHS = [CpuFeatures(4, 32, 1), CpuFeatures(8, 16, 2), CpuFeatures(16, 32, 3)]
every_width = pytest.mark.parametrize("features", WIDTHS, ids=lambda features: f"{features.lanes}x{features.cores}")


def test_vectors_cover_the_channels():
    assert vectors(40, 16) == (Vector(0, 16), Vector(16, 16), Vector(32, 8))
    assert vectors(7, 16) == (Vector(0, 4), Vector(4, 2), Vector(6, 1))


def test_panels_of_panels():
    weight = np.arange(10, dtype=np.float32).reshape(2, 5)
    assert pack_panels(weight, 3).tolist() == [0, 1, 2, 5, 6, 7, 3, 4, 8, 9]
    assert pack_panels(weight, 3, 2).tolist() == [0, 1, 5, 6, 2, 7, 3, 4, 8, 9]


@every_width
@pytest.mark.parametrize("outer", ["pixels", "channels"])
@pytest.mark.parametrize(("pixels", "channels"), [(4, 16), (7, 24), (49, 40)])
def test_pointwise(outer, pixels, channels, features, tmp_path):
    spec = KernelSpec("conv", 12, 40, 6, activation="hard_swish", bias=True, residual=True)
    parameters = {"pixels": pixels, "channels": channels, "outer": outer}
    assert error_of(spec, "pointwise", parameters, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize("depth", [16, 23])
def test_pointwise_scales_its_input(depth, features, tmp_path):
    spec = KernelSpec("conv", depth, 24, 5, bias=True, scaled=True)
    parameters = {"pixels": 4, "channels": 16, "outer": "pixels"}
    assert error_of(spec, "pointwise", parameters, features, tmp_path) < 1e-5


@every_width
def test_pointwise_gives_sums_instead_of_the_map(features, tmp_path):
    spec = KernelSpec("conv", 12, 40, 5, activation="hard_swish", bias=True, pooled=True)
    parameters = {"pixels": 4, "channels": 24, "outer": "channels"}
    assert error_of(spec, "pointwise", parameters, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize("activation", get_args(Activation))
def test_dense(activation, features, tmp_path):
    spec = KernelSpec("dense", 30, 45, 1, activation=activation, bias=activation != "none")
    parameters = {"pixels": 1, "channels": 32, "outer": "channels"}
    assert error_of(spec, "pointwise", parameters, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize(("size", "columns"), [(14, 4), (5, 2), (3, 3)])
@pytest.mark.parametrize(("kernel_size", "stride"), WINDOWS)
def test_depthwise(size, columns, kernel_size, stride, features, tmp_path):
    pooled = size == 5
    spec = KernelSpec("depthwise", 24, 24, size, kernel_size, stride, activation="relu", bias=True, pooled=pooled)
    assert error_of(spec, "depthwise", {"columns": columns, "channels": 16}, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize("size", [14, 4, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_shifted_windows(size, kernel_size, features, tmp_path):
    how: dict[str, Any] = {"activation": "relu6", "bias": True, "shifted": True}
    spec = KernelSpec("depthwise", 24, 24, size, kernel_size, 2, **how)
    assert error_of(spec, "depthwise", {"columns": 2, "channels": 16}, features, tmp_path) < 1e-5
    spec = KernelSpec("expand_depthwise", 12, 40, size, kernel_size, 2, **how)
    tile = {"channels": 16, "pixels": 2, "panel": 16, "columns": 1, "deep": 16}
    assert error_of(spec, "expand_depthwise", tile, features, tmp_path) < 1e-5
    spec = KernelSpec("conv", 3, 20, size, kernel_size, 2, **how)
    assert error_of(spec, "full_window", {"columns": 2, "channels": 16}, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize(("size", "stride", "columns", "channels"), [(16, 2, 4, 16), (12, 1, 5, 8), (9, 2, 3, 12)])
def test_stem(size, stride, columns, channels, features, tmp_path):
    spec = KernelSpec("conv", 3, 20, size, 3, stride, activation="hard_swish", bias=True)
    assert error_of(spec, "full_window", {"columns": columns, "channels": channels}, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize("outer", ["channels", "rows"])
@pytest.mark.parametrize(("size", "kernel_size", "stride", "columns"), [(8, 3, 1, 4), (9, 3, 2, 5), (6, 1, 2, 3)])
@pytest.mark.parametrize(("groups", "channels"), [(1, 24), (1, 48), (4, 12)])
def test_deep_windows(outer, size, kernel_size, stride, columns, groups, channels, features, tmp_path):
    spec = KernelSpec("conv", 20, 48, size, kernel_size, stride, "relu", bias=True, residual=True, groups=groups)
    tile = {"columns": columns, "channels": channels, "outer": outer}
    assert error_of(spec, "deep_window", tile, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize("kind", ["max_pool", "average_pool"])
@pytest.mark.parametrize(("size", "kernel_size", "stride"), [(8, 2, 2), (9, 3, 2), (7, 3, 1)])
def test_window_pools(kind, size, kernel_size, stride, features, tmp_path):
    spec = KernelSpec(kind, 20, 20, size, kernel_size, stride, valid=kind == "average_pool" or kernel_size == 2)
    assert error_of(spec, "window_pool", {"channels": 16}, features, tmp_path) < 1e-5


@every_width
def test_unpadded_windows(features, tmp_path):
    spec = KernelSpec("conv", 12, 24, 9, 3, 2, valid=True)
    assert error_of(spec, "deep_window", {"columns": 3, "channels": 16}, features, tmp_path) < 1e-5
    spec = KernelSpec("depthwise", 24, 24, 9, 3, 1, valid=True)
    assert error_of(spec, "depthwise", {"columns": 3, "channels": 16}, features, tmp_path) < 1e-5
    spec = KernelSpec("expand_depthwise", 12, 40, 9, 3, 2, "relu", bias=True, valid=True)
    tile = {"channels": 16, "pixels": 2, "panel": 16, "columns": 1, "deep": 16}
    assert error_of(spec, "expand_depthwise", tile, features, tmp_path) < 1e-5


@every_width
@pytest.mark.parametrize(("kernel_size", "stride"), WINDOWS)
@pytest.mark.parametrize(("size", "tile"), [(10, (16, 4, 16, 3, 16)), (7, (40, 7, 24, 7, 32)), (4, (32, 3, 8, 2, 8))])
def test_expand_depthwise(size, kernel_size, stride, tile, features, tmp_path):
    spec = KernelSpec(
        "expand_depthwise", 12, 40, size, kernel_size, stride, activation="hard_swish", bias=True, pooled=size != 4
    )
    names = ("channels", "pixels", "panel", "columns", "deep")
    assert error_of(spec, "expand_depthwise", dict(zip(names, tile, strict=True)), features, tmp_path) < 1e-5


@every_width
def test_pool(features, tmp_path):
    spec = KernelSpec("pool", 40, 40, 5)
    assert error_of(spec, "pool", {"channels": 24}, features, tmp_path) < 1e-5


@pytest.mark.parametrize("features", [CpuFeatures(4, 16, 1), CpuFeatures(8, 16, 2), CpuFeatures(16, 32, 4)])
@pytest.mark.parametrize(("space", "resolution"), [(FUSED, 224), (MBV3, 224), (MBV3_CIFAR, 28)])
def test_every_kernel_has_candidates_that_fit(space, resolution, features):
    for spec in fused_kernels(space, (resolution,)).values():
        found = candidates(spec, features)
        assert found
        assert len({str(schedule) for schedule in found}) == len(found)
        for schedule in found:
            EmittedKernel(spec, schedule, features)


@pytest.mark.parametrize(
    "schedule",
    [
        {"template": "no such"},
        {"trace": []},
        {"template": "depthwise", "parameters": {"columns": 1, "channels": 8}},
        {"template": "pointwise", "parameters": {"pixels": 1}},
        {"template": "pointwise", "parameters": {"pixels": 1, "channels": 8, "colour": 1}},
    ],
)
def test_a_schedule_that_means_nothing_here_is_refused(schedule):
    with pytest.raises(ValueError, match="conv_8x8_8-16"):
        EmittedKernel(KernelSpec("conv", 8, 16, 8), schedule, CpuFeatures(8, 16, 1))


def test_a_kernel_that_no_template_computes_is_named():
    with pytest.raises(ValueError, match="squeeze_excite"):
        candidates(KernelSpec("squeeze_excite", 8, 8, 4, hidden_channels=4), CpuFeatures(8, 16, 1))


@pytest.mark.parametrize(
    ("attributes", "lanes", "registers", "dot"),
    [
        ({"mcpu": "znver5"}, 16, 32, "vnni"),
        ({"mcpu": "skylake-avx512"}, 16, 32, "madd"),
        ({"mcpu": "alderlake"}, 8, 16, "vnni"),
        ({"mcpu": "haswell"}, 8, 16, "madd"),
        ({"mcpu": "x86-64"}, 4, 16, None),
        ({"mcpu": "cortex-a76", "mtriple": "aarch64-linux-gnu"}, 4, 32, "sdot"),
        ({"mcpu": "neoverse-n2", "mtriple": "aarch64-linux-gnu"}, 4, 32, "usdot"),
        ({"mcpu": "cortex-a72", "mtriple": "aarch64-linux-gnu"}, 4, 32, None),
    ],
)
def test_vector_registers_of_a_target(attributes, lanes, registers, dot):
    found = cpu_features(Target({"kind": "llvm", **attributes, "num-cores": 2}))
    has_float16 = attributes["mcpu"] in ("cortex-a76", "neoverse-n2")
    assert found == CpuFeatures(lanes, registers, 2, dot, attributes["mcpu"] == "znver5", has_float16)
    assert found.is_neon == ("mtriple" in attributes)


ASSEMBLY = {
    "znver4": ({"mcpu": "znver4"}, "vfmadd231ps", "%zmm"),
    "haswell": ({"mcpu": "haswell"}, "vfmadd231ps", "%ymm"),
    "cortex-a76": ({"mcpu": "cortex-a76", "mtriple": "aarch64-linux-gnu"}, "fmla", ".4s"),
}


@pytest.mark.parametrize("name", ASSEMBLY)
@pytest.mark.parametrize(
    "spec",
    [
        KernelSpec("conv", 80, 96, 14, activation="hard_swish", bias=True),
        KernelSpec("expand_depthwise", 40, 128, 14, 5, 1, activation="relu", bias=True),
        KernelSpec("conv", 64, 64, 28, 3, activation="relu", bias=True, residual=True),
        KernelSpec("conv", 64, 64, 28, 3, activation="relu", bias=True, groups=4),
    ],
    ids=["conv", "expand_depthwise", "deep_window", "grouped"],
)
def test_accumulators_stay_in_registers(name, spec):
    """The loop over input channels multiplies and adds in registers and stores nothing."""
    attributes, multiply_add, register = ASSEMBLY[name]
    compiled_for = Target({"kind": "llvm", **attributes, "num-cores": 1})
    features = cpu_features(compiled_for)
    kernel = EmittedKernel(spec, candidates(spec, features)[0], features)
    loops = inner_loops(generate(kernel, compiled_for).inspect_source("asm"))
    best = max(loops, key=lambda lines: sum(multiply_add in line for line in lines))
    fused = [line for line in best if multiply_add in line and register in line]
    assert len(fused) >= 8
    stores = [line for line in best if line.split()[0] in ("vmovups", "vmovaps") and line.rstrip().endswith(")")]
    stores += [line for line in best if line.split()[0] in ("str", "stp", "stur")]
    assert not stores


def inner_loops(assembly):
    """Instructions between a label and the jump back to it."""
    lines = [line.strip() for line in assembly.splitlines() if not line.startswith(".Ltmp")]
    places = {
        line.partition(":")[0]: number for number, line in enumerate(lines) if line.startswith(".L") and ":" in line
    }
    found = []
    for number, line in enumerate(lines):
        words = line.replace(",", " ").split()
        start = places.get(words[-1]) if words and words[0][0] in "jb" else None
        if start is not None and start < number:
            body = lines[start + 1 : number + 1]
            if not any(part.startswith(".L") for part in body):
                found.append([part for part in body if part and part[0] not in "#./"])
    return found


def test_an_object_is_compiled_once(tmp_path):
    cache = ObjectCache({"kind": "llvm", "mcpu": MCPU, "num-cores": 1}, tmp_path)
    spec = KernelSpec("dense", 8, 16, 1)
    kernel = cache.kernel(spec)
    path = cache.get(spec, kernel.schedule)
    assert cache.get(spec, kernel.schedule) == path
    assert cache.compiled == [path]
    other = ObjectCache({"kind": "llvm", "mcpu": MCPU, "num-cores": 2}, tmp_path)
    assert other.path(spec, kernel.schedule) != path


@pytest.mark.parametrize("damage", ["half", "empty", "bits"])
def test_a_damaged_object_is_never_linked(tmp_path, capfd, damage):
    cache = ObjectCache({"kind": "llvm", "mcpu": MCPU, "num-cores": 1}, tmp_path)
    spec = KernelSpec("dense", 8, 16, 1)
    kernel = cache.kernel(spec)
    path = cache.get(spec, kernel.schedule)
    whole = path.read_bytes()
    middle = len(whole) // 2
    bits = whole[:middle] + bytes(byte ^ 0x41 for byte in whole[middle : middle + 3]) + whole[middle + 3 :]
    path.write_bytes({"half": whole[:middle], "empty": b"", "bits": bits}[damage])
    runner = KernelRunner(kernel, cache.get(spec, kernel.schedule), 1)
    assert capfd.readouterr().err == f"{path} is damaged or of an earlier version, and made again, as others may be\n"
    inputs = random_inputs(spec)
    np.testing.assert_allclose(runner.run(inputs)[0], compute(spec, inputs)[0], rtol=1e-4, atol=1e-5)
    assert is_whole(path)


def test_a_disk_that_fills_up_does_not_end_the_process(tmp_path, monkeypatch):
    """LLVM would: it aborts where it cannot write."""
    cache = ObjectCache({"kind": "llvm", "mcpu": MCPU, "num-cores": 1}, tmp_path)
    spec = KernelSpec("dense", 8, 16, 1)

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/.*\\.o'"):
        cache.get(spec, cache.kernel(spec).schedule)
    assert not list(tmp_path.iterdir())
