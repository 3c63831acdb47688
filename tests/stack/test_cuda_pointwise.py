"""1x1 convolutions for GPUs: their code run on a CPU, and the machine code that it becomes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from emulated_cuda import assert_all_compute

import ofa_tvm.compiler.native
from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.compiler.cuda.emit.matrix import MatrixTile
from ofa_tvm.compiler.cuda.emit.pointwise import POINTWISE
from ofa_tvm.compiler.cuda.nvrtc import cubin, cuda_compiler
from ofa_tvm.graph.kernel import KernelSpec

PRELUDE = Path(ofa_tvm.compiler.native.__path__[0]) / "cuda_prelude.h"
SCALED = KernelSpec("conv", 72, 24, 4, activation="relu", bias=True, scaled=True, residual=True, batch=3)
POOLED = KernelSpec("conv", 40, 24, 6, activation="hard_swish", bias=True, pooled=True, batch=2)
PLAIN = KernelSpec("conv", 72, 40, 5, activation="silu")
TYPES: list[dict[str, Any]] = [{"dtype": "float32"}, {"dtype": "float16", "float_vectors": True}]


def emitted(spec: KernelSpec, tile: MatrixTile) -> EmittedCuda:
    return EmittedCuda(spec, {"template": "cuda_pointwise", "parameters": asdict(tile)})


CASES = [
    # A sum split over warps and blocks of a cluster.
    (SCALED, MatrixTile(16, 16, 1, 1, 2, 2)),
    # Several images in a block, whose last rows and columns do not exist; more steps than are under way at a time.
    (replace(PLAIN, batch=3), MatrixTile(32, 32, 2, 2, 1, 1)),
    # A map of more rows than a block has, in two passes.
    (replace(POOLED, scaled=True, residual=True), MatrixTile(16, 16, 1, 2, 2, 1)),
]
SMALL = [
    (replace(SCALED, batch=1, dtype="float16", float_vectors=True), MatrixTile(16, 8, 1, 1, 2, 2)),
    (replace(POOLED, batch=1), MatrixTile(16, 16, 1, 1, 2, 1)),
]


@pytest.mark.parametrize("of_type", TYPES, ids=lambda one: one["dtype"])
def test_the_code_computes_what_the_reference_does(of_type, tmp_path):
    assert_all_compute([emitted(replace(spec, **of_type), tile) for spec, tile in CASES], tmp_path)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    assert_all_compute([emitted(spec, tile) for spec, tile in SMALL], tmp_path, sanitizer)


def tool(name: str) -> str:
    """A program of CUDA's, the toolkit's or the one that comes with Triton."""
    triton = find_spec("triton")
    places = (triton.submodule_search_locations or ()) if triton else ()
    found = shutil.which(
        name, path=os.pathsep.join([os.environ["PATH"], *(f"{one}/backends/nvidia/bin" for one in places)])
    )
    return found or pytest.skip(f"{name} is not installed")


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(cuda_compiler() is None, reason="neither NVRTC nor nvcc is installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_machine_code_reads_16_bytes_and_spills_nothing(architecture, tmp_path):
    shapes = [
        KernelSpec("conv", 960, 160, 7, bias=True, scaled=True, residual=True),
        KernelSpec("conv", 112, 672, 14, activation="hard_swish", bias=True, batch=64),
        KernelSpec("conv", 160, 960, 7, activation="hard_swish", bias=True, pooled=True),
    ]
    specs = [replace(spec, **one) for spec in shapes for one in TYPES]
    best = [POINTWISE.candidates(spec, GPUS[architecture])[0][1] for spec in specs]
    kernels = [
        EmittedCuda(spec, {"template": "cuda_pointwise", "parameters": one})
        for spec, one in zip(specs, best, strict=True)
    ]
    source = "\n".join([PRELUDE.read_text(), *(kernel.source for kernel in kernels)])
    library = tmp_path / "kernels.cubin"
    library.write_bytes(cubin(source, architecture))
    used = said(tool("cuobjdump"), "-res-usage", str(library))
    listing = said(tool("nvdisasm"), "-c", str(library))
    stacks = dict(re.findall(r"Function (\w+):\s+.*?STACK:(\d+)", used))
    code = dict(re.findall(r"\.section\s+\.text\.(\w+)(.*?)(?=\.section\s|\Z)", listing, re.S))
    for kernel in kernels:
        name, body = kernel.spec.symbol, code[kernel.spec.symbol]
        assert stacks[name] == "0", f"{name} spills registers"
        rows, columns = kernel.schedule["parameters"]["rows"], kernel.schedule["parameters"]["columns"]
        is_half = kernel.spec.dtype == "float16"
        a_step = rows // 8 + columns // 8 if is_half else rows * columns // 128 + 4
        steps = min(2, int(kernel.source.partition("#define STEPS ")[2].split()[0]))
        before = re.split("HMMA|FFMA", body)[0]
        assert before.count("LDG.E.128") >= steps * a_step, f"{name} waits for each step"
        if architecture == "sm_90":
            assert "LDG.E.128.CONSTANT" in body.split("ACQBULK")[0], "weights are asked for before the wait"
        assert ("HMMA.16816.F32" in body) == is_half
        assert ("UCGABAR" in body) == (kernel.launch.cluster > 1)
