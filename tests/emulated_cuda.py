"""Runs an emitted CUDA kernel on a CPU, see ``native/cuda_emulation.h``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, random_inputs
from ofa_tvm.support.dtype import ArrayType

HEADER = Path(__file__).parent / "native" / "cuda_emulation.h"
Array = NDArray[np.float32]


def argument_types(spec: KernelSpec) -> list[ArrayType]:
    """Of what a kernel reads: source, [scales], constants, [residual]."""
    scales = ArrayType((spec.batch, spec.in_channels), "float32")
    residual = ArrayType(spec.output_shape, spec.map_type)
    return [spec.input_type, *[scales] * spec.scaled, *spec.weight_types, *[residual] * spec.residual]


def rounded_inputs(spec: KernelSpec, seed: int = 0) -> list[Array]:
    """Random inputs as float32 numbers that the kernel's types hold exactly."""
    arrays = random_inputs(spec, seed)
    return [
        array.astype(each.dtype).astype(np.float32) for array, each in zip(arrays, argument_types(spec), strict=True)
    ]


def run_emulated(
    kernel: EmittedCuda, inputs: Sequence[Array], folder: Path, sanitizer: str = "", calls: int = 1
) -> list[Array]:
    """A kernel's outputs.

    Args:
        kernel: the kernel.
        inputs: as ``numpy_reference.compute`` takes them.
        folder: for files.
        sanitizer: ``address`` or ``thread``; empty for none.
        calls: how often the kernel runs on the same memory, to see that its scratch memory is as it was.
    """
    return run_all_emulated([(kernel, inputs)], folder, sanitizer, calls)[0]


def run_all_emulated(
    kernels: Sequence[tuple[EmittedCuda, Sequence[Array]]], folder: Path, sanitizer: str = "", calls: int = 1
) -> list[list[Array]]:
    """The outputs of several kernels, compiled as one program because that is quicker; see ``run_emulated``."""
    sources, body = [], []
    for number, (kernel, inputs) in enumerate(kernels):
        name = f"{kernel.spec.symbol}_n{number}"
        sources.append(kernel.source.replace(f" {kernel.spec.symbol}(", f" {name}("))
        body += ["{", *_calls(kernel, inputs, name, folder / f"kernel{number}", calls), "}"]
    (folder / "program.cc").write_text("\n".join([f'#include "{HEADER}"', *sources, "int main() {", *body, "}"]))
    program = str(folder / "program")
    checks = [f"-fsanitize={sanitizer}", "-g"] if sanitizer else []
    command = ["g++", "-std=c++20", "-O0", "-w", "-pthread", *checks, str(folder / "program.cc"), "-o", program]
    for step in (command, [program]):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:3000]
    return [_made(kernel.spec, folder / f"kernel{number}") for number, (kernel, _) in enumerate(kernels)]


def _calls(kernel: EmittedCuda, inputs: Sequence[Array], name: str, folder: Path, calls: int) -> list[str]:
    """C++ that calls a kernel, and its files."""
    spec, launch = kernel.spec, kernel.launch
    folder.mkdir(exist_ok=True)
    arrays = [array.astype(each.dtype) for array, each in zip(inputs, argument_types(spec), strict=True)]
    first, last = spec.data_inputs, spec.data_inputs + len(spec.weight_types)
    constants = kernel.pack([array.astype(np.float32) for array in inputs[first:last]])
    read = [*arrays[:first], *constants, *arrays[last:]]
    lines = []
    for number, array in enumerate(read):
        (folder / f"read{number}").write_bytes(np.ascontiguousarray(array).tobytes())
        lines.append(f'auto read{number} = read_file("{folder}/read{number}");')
    for number, output in enumerate(spec.output_types):
        lines.append(f"std::vector<uint4> made{number}({-(-output.nbytes // 16)});")
    lines.append(f"std::vector<uint4> scratch({-(-kernel.scratch_bytes // 16)}, uint4{{0, 0, 0, 0}});")
    names = [*(f"read{n}" for n in range(len(read))), *(f"made{n}" for n in range(len(spec.output_types)))]
    names += ["scratch"] * bool(kernel.scratch_bytes)
    given = ", ".join(f"reinterpret_cast<decltype(argument<{n}>({name}))>({one}.data())" for n, one in enumerate(names))
    x, y, z = launch.grid
    lines.append(f"for (int call = 0; call < {calls}; ++call) {{")
    for number in range(len(spec.output_types)):
        lines.append(f"std::fill(made{number}.begin(), made{number}.end(), uint4{{~0u, ~0u, ~0u, ~0u}});")
    lines.append(f"launch({{{x}, {y}, {z}}}, {launch.threads}, {launch.cluster}, [&] {{ {name}({given}); }}); }}")
    for number, output in enumerate(spec.output_types):
        lines.append(f'write_file("{folder}/made{number}", made{number}.data(), {output.nbytes});')
    return lines


def _made(spec: KernelSpec, folder: Path) -> list[Array]:
    return [
        np.frombuffer((folder / f"made{number}").read_bytes(), output.dtype).reshape(output.shape).astype(np.float32)
        for number, output in enumerate(spec.output_types)
    ]


TOLERANCE = {"float32": 1e-5, "float16": 2e-3}
"""Of the largest output."""


def assert_all_compute(kernels: Sequence[EmittedCuda], folder: Path, sanitizer: str = "") -> None:
    """Kernels, emulated, compute what the reference does."""
    inputs = [rounded_inputs(kernel.spec) for kernel in kernels]
    for arrays in inputs:
        arrays[0] *= 16  # exactly; smaller pixels would hide behind the biases
    made = run_all_emulated(list(zip(kernels, inputs, strict=True)), folder, sanitizer)
    for kernel, outputs, arrays in zip(kernels, made, inputs, strict=True):
        for found, expected in zip(outputs, compute(kernel.spec, arrays), strict=True):
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= TOLERANCE[kernel.spec.dtype], (kernel.spec.key, kernel.schedule)
