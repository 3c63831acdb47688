"""The library of a bundle for a GPU: what the runner calls, around a network that TVM's virtual machine runs."""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

from ofa_tvm.compiler.tvm_api.headers import include_folders
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.support.c_library import run_compiler

PROGRAM = ("gpu_program.cc", "facts.c", "window.c")
NETWORK = "network.so"
"""TVM's own library, which lies beside ``model.so``."""
CPU, CUDA = 1, 2
"""DLPack's numbers of devices."""
CPU_LIBRARIES = ("libtvm_ffi.so", "libtvm_runtime.so")
CUDA_LIBRARIES = (*CPU_LIBRARIES, "libtvm_runtime_cuda.so")
"""What ``model.so`` looks for beside itself, in the order of their loading."""


def link_gpu_program(network: NetworkSpec, batch: int, linker: str, library: Path, device: int = CUDA) -> None:
    """Build ``model.so``; ``network.so`` and TVM's runtime libraries must lie beside it when it runs.

    Args:
        network: what ``network.so`` computes.
        batch: images per call.
        linker: a C++ compiler for the machine that the GPU is in.
        library: the file to write.
        device: where the network runs; ``CPU`` for tests.

    Raises:
        OfaTvmError: the compiler fails.
    """
    defines = {
        "BATCH": batch,
        "CLASSES": network.classes,
        "RESOLUTION": network.resolution,
        "CHANNELS": network.in_channels,
        "DEVICE_TYPE": device,
        "TASKS": 0,
    }
    needed = CUDA_LIBRARIES if device == CUDA else CPU_LIBRARIES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "gpu_program.cc"
        native = files("ofa_tvm.compiler.native")
        source.write_text("\n".join(native.joinpath(name).read_text() for name in PROGRAM))
        # Empty libraries of the same names are enough to link with, so TVM's need not be here for every architecture.
        for each in needed:
            _run([linker, "-shared", "-x", "c", "/dev/null", "-o", str(folder / each), f"-Wl,-soname,{each}"])
        command = [linker, "-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-shared"]
        command += [f"-D{key}={value}" for key, value in defines.items()]
        command += [f"-I{path}" for path in include_folders()]
        command += [str(source), "-o", str(library), f"-L{folder}", "-Wl,--no-as-needed"]
        command += [*(f"-l:{each}" for each in needed), "-Wl,--as-needed", "-ldl", "-Wl,-rpath,$ORIGIN", "-s"]
        _run(command)


def _run(command: list[str]) -> None:
    run_compiler(command, f"{command[0]} could not link a GPU's library")
