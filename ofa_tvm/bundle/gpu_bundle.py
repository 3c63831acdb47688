"""A GPU's part of a bundle: the network as TVM's library, what the runner calls, and TVM's runtime."""

from __future__ import annotations

import shutil
from pathlib import Path

from ofa_tvm.bundle.folder import LIBRARY
from ofa_tvm.compiler.cpu.assembler import Winners
from ofa_tvm.compiler.cuda.program import CUDA_LIBRARIES, NETWORK, link_gpu_program
from ofa_tvm.devices.pack.runtime import CUDA_RUNTIME, runtime_libraries
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import log


def write_gpu_library(
    network: NetworkSpec, weights: Weights, target: TargetSpec, winners: Winners, folder: Path
) -> None:
    """Compile a subnet for a GPU, which need not be here, and put beside it what it needs to run.

    Args:
        network: the subnet.
        weights: folded weights.
        target: a GPU.
        winners: tuned schedules by kernel.
        folder: the bundle's.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: a compiler refused the code.
    """
    from ofa_tvm.compiler.cuda.build import build_network
    from ofa_tvm.compiler.tvm_api.names import Target

    linker = target.toolchain.linker
    made_for, library = Target(target.attributes), folder / NETWORK
    build_network(network, weights, winners, made_for, linker, library, target.batch, target.dtype)
    link_gpu_program(network, target.batch, linker, folder / LIBRARY)
    libraries = runtime_libraries(target)
    for name, path in libraries.items():
        shutil.copyfile(path, folder / name)
    missing = [name for name in (*CUDA_LIBRARIES, CUDA_RUNTIME) if name not in libraries]
    if missing:
        log(f"the bundle lacks {', '.join(missing)}: put them beside model.so there, or where the loader finds them")
