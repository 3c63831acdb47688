"""CUDA code is compiled on a machine without a GPU, for every architecture, and lies in the library."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from plain_cuda import PLAIN
from tvm.error import InternalError

from ofa_tvm import compile as compile_command
from ofa_tvm.checks import cuda_checks
from ofa_tvm.compiler.cuda import emit
from ofa_tvm.compiler.cuda import nvrtc as compiler
from ofa_tvm.compiler.cuda.build import build_kernel, build_network
from ofa_tvm.compiler.cuda.device_code import machine_code
from ofa_tvm.compiler.cuda.emit import best_guess
from ofa_tvm.compiler.cuda.nvrtc import cubin, cuda_compiler
from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import gpu_targets, load_target
from ofa_tvm.spaces import MBV3_CIFAR
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.tuner.measured_traces import kept_traces
from ofa_tvm.tuner.trace_candidates import TraceSources
from ofa_tvm.tuner.trial import TrialResult

COMPILER = cuda_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="neither NVRTC nor nvcc is installed")
CONV = KernelSpec("conv", 16, 32, 8, 3, 1, "hard_swish", bias=True)
CUDA_MACHINE = 190


def architecture(code: bytes) -> int:
    """The number after ``sm_`` of a cubin: where its ELF header keeps it has moved once."""
    machine: int = struct.unpack_from("<H", code, 18)[0]
    flags: int = struct.unpack_from("<I", code, 48)[0]
    assert machine == CUDA_MACHINE
    return (flags >> 8) & 0xFF if flags & 0xFF not in (80, 86, 87, 89, 90) else flags & 0xFF


def compiles(schedule: dict[str, Any], target: Target, library: Path) -> bool:
    """Whether TVM makes a kernel of it: now and then evolution proposes what its lowering refuses, a failed trial."""
    try:
        build_kernel(CONV, schedule, target, "g++", library)
    except InternalError:
        return False
    return bool(machine_code(library))


@pytest.mark.parametrize("name", gpu_targets())
def test_a_kernel_of_every_gpu_target_holds_its_code(name, tmp_path):
    target = load_target(name)
    if shutil.which(target.toolchain.linker) is None:
        pytest.skip(f"{target.toolchain.linker} is not installed")
    build_kernel(CONV, {}, Target(target.attributes), target.toolchain.linker, tmp_path / "kernel.so")
    (code,) = machine_code(tmp_path / "kernel.so")
    assert target.target.gpu is not None
    assert f"sm_{architecture(code)}" == target.target.gpu.arch
    assert b"main_kernel" in code


def test_every_kind_of_kernel_has_a_default_schedule(tmp_path):
    target = Target(load_target("cuda-sm80").attributes)
    kinds: dict[tuple[str, bool, bool], KernelSpec] = {}
    for spec in layer_kernels(MBV3_CIFAR, (28,)).values():
        kinds.setdefault((spec.kind, spec.scaled, spec.residual), spec)
    assert {kind for kind, *_ in kinds} == {"conv", "depthwise", "squeeze_excite", "pool", "dense"}
    for number, spec in enumerate(kinds.values()):
        build_kernel(spec, {}, target, "g++", tmp_path / f"{number}.so")
        assert machine_code(tmp_path / f"{number}.so")


@pytest.mark.parametrize(
    ("name", "dtype"), [("cuda-sm80", "float32"), ("cuda-sm90", "float32"), ("cuda-sm90", "float16")]
)
def test_a_subnet_holds_the_code_of_all_its_kernels(name, dtype, tmp_path):
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    target = load_target(name)
    library = tmp_path / "subnet.so"
    build_network(network, random_weights(network), {}, Target(target.attributes), "g++", library, 1, dtype)
    (code,) = machine_code(library)
    assert target.target.gpu is not None
    assert f"sm_{architecture(code)}" == target.target.gpu.arch
    assert b"conv_" in code
    assert b"squeeze_excite_" in code


def test_evolution_proposes_what_compiles_and_goes_on_where_it_was(tmp_path):
    attributes = load_target("cuda-sm80").attributes
    tried: set[str] = set()
    source = TraceSources(attributes, tmp_path, {}, tried)(CONV)
    asked = source.ask(3)
    assert [one.source for one in asked] == ["default", "evolution", "evolution"]
    assert any(
        compiles(one.schedule, Target(attributes), tmp_path / f"{number}.so") for number, one in enumerate(asked[1:])
    )
    source.tell([TrialResult("ok", (0.2,), is_checked=True), TrialResult("failed"), TrialResult("ok", (0.1,))])
    assert [line["times_ms"] for line in kept_traces(tmp_path)[CONV.key]] == [[0.1]]
    tried |= {one.digest for one in asked}
    again = TraceSources(attributes, tmp_path, {}, tried)(CONV).ask(2)
    assert again
    assert not {one.digest for one in again} & tried

    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    weights, target = random_weights(network), Target(attributes)
    spec = next(one for _, one in network_kernels(network) if one.kind == "conv" and one.kernel_size == 1)
    trace = TraceSources(attributes, tmp_path / "other", {}, set())(spec).ask(2)[1].schedule
    codes = []
    for winners in ({}, {spec.key: trace}):
        build_network(network, weights, winners, target, "g++", tmp_path / "subnet.so", 1)
        codes += machine_code(tmp_path / "subnet.so")
    assert codes[0] != codes[1], "the winner's code is in the library"


def test_float16_has_candidates_for_tensor_cores(tmp_path):
    attributes = load_target("cuda-sm80").attributes
    spec = KernelSpec("conv", 32, 64, 4, bias=True, dtype="float16")
    asked = TraceSources(attributes, tmp_path, {}, set())(spec).ask(4)
    assert asked[0].source == "default"
    on_tensor_cores = [one for one in asked if "wmma" in json.dumps(one.schedule)]
    assert on_tensor_cores
    for number, one in enumerate(on_tensor_cores):
        build_kernel(spec, one.schedule, Target(attributes), "g++", tmp_path / f"{number}.so")
        assert machine_code(tmp_path / f"{number}.so")


@pytest.mark.parametrize(
    "spec",
    [
        KernelSpec("conv", 3, 16, 14, 3, 2, "hard_swish", bias=True, dtype="float16"),
        KernelSpec("dense", 384, 10, 1, bias=True, dtype="float16"),
    ],
    ids=lambda spec: spec.key,
)
def test_float16_does_without_tensor_cores_where_the_shape_is_not_for_them(spec, tmp_path):
    """TVM's rules for them refuse such a stem, and fail for such a classifier."""
    attributes = load_target("cuda-sm80").attributes
    asked = TraceSources(attributes, tmp_path, {}, set())(spec).ask(3)
    assert [one.source for one in asked] == ["default", "evolution", "evolution"]


@pytest.mark.skipif(COMPILER is None or COMPILER.name != "NVRTC", reason="nvcc brings its headers")
def test_missing_headers_of_float16_are_told(monkeypatch):
    monkeypatch.setattr(compiler, "_header_folders", lambda: [])
    check = cuda_checks._float16_headers()
    assert check.status == "warn"
    assert "nvidia-cuda-crt" in check.fix
    with pytest.raises(UserError, match="headers were not found") as told:
        cubin("#include <cuda_fp16.h>", "sm_80")
    assert "nvidia-cuda-runtime" in told.value.hint
    assert cubin("", "sm_80"), "float32 needs none"


def test_float16_for_a_cpu_is_refused(capsys):
    assert compile_command.main(["--target", "x86", "--dtype", "float16"]) == 2
    assert "no half-precision arithmetic" in capsys.readouterr().err


def test_compile_writes_a_library_with_device_code(capsys, tmp_path):
    options = ["--target", "cuda-sm86", "--subnet", "smallest", "--out", str(tmp_path), "--json"]
    assert compile_command.main([*options, "--logs", str(tmp_path / "logs")]) == 0
    (made,) = json.loads(capsys.readouterr().out)["subnets"]
    assert (made["architecture"], made["tuned_kernels"]) == ("sm_86", 0)
    assert sum(map(len, machine_code(Path(made["library"])))) == made["device_code_bytes"] > 0


def test_compile_writes_a_library_of_kernels_from_templates(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(emit, "TEMPLATES", {"plain": PLAIN})
    best_guess.cache_clear()
    options = ["--target", "cuda-sm90-templates", "--subnet", "smallest", "--out", str(tmp_path), "--json"]
    assert compile_command.main([*options, "--logs", str(tmp_path / "logs")]) == 0
    best_guess.cache_clear()
    (made,) = json.loads(capsys.readouterr().out)["subnets"]
    (code,) = machine_code(Path(made["library"]))
    assert (made["architecture"], made["device_code_bytes"]) == ("sm_90", len(code))
    assert architecture(code) == 90
    assert b"depthwise_" in code


def test_source_that_does_not_compile_is_told_in_one_line():
    with pytest.raises(OfaTvmError, match=r"cannot compile for sm_80: .*error"):
        cubin("int broken(", "sm_80")
