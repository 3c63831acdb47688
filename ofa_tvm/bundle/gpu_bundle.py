"""A GPU's part of a bundle beside the network itself: what the runner calls, and TVM's runtime."""

from __future__ import annotations

from pathlib import Path

from ofa_tvm.bundle.folder import LIBRARY
from ofa_tvm.compiler.cuda.program import CUDA_LIBRARIES, link_gpu_program
from ofa_tvm.devices.pack.runtime import runtime_libraries
from ofa_tvm.devices.pack.tvm_runtime import CUDART
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import warn
from ofa_tvm.support.files import copy_file


def add_gpu_program(network: NetworkSpec, target: TargetSpec, folder: Path) -> None:
    """Put the library that the runner calls, and what that needs to run, beside a network compiled for a GPU.

    Args:
        network: the subnet.
        target: the GPU.
        folder: the bundle's.

    Raises:
        OfaTvmError: a compiler refused the code.
    """
    link_gpu_program(network, target.batch, target.toolchain.linker, folder / LIBRARY)
    libraries = runtime_libraries(target)
    for name, path in libraries.items():
        copy_file(path, folder / name)
    missing = [name for name in (*CUDA_LIBRARIES, CUDART) if name not in libraries]
    if missing:
        warn(f"the bundle lacks {', '.join(missing)}: put them beside model.so there, or where the loader finds them")
