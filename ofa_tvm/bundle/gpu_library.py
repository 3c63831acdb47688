"""Compile a subnet for a GPU, which need not be here: the library holds the device code, and nothing is run."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.cuda.build import Winners, build_network
from ofa_tvm.compiler.cuda.device_code import machine_code
from ofa_tvm.compiler.lowering import kernel_calls
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import write_atomic


@dataclass(frozen=True)
class GpuSubnet:
    """What compiling took and gave.

    Args:
        subnet: its key.
        seconds: that it took.
        tuned_kernels: distinct kernels with a winner in the log.
        default_kernels: distinct kernels without.
        architecture: what the device code is for.
        device_code_bytes: how much there is of it.
        library: the exported library.
    """

    subnet: str
    seconds: float
    tuned_kernels: int
    default_kernels: int
    architecture: str
    device_code_bytes: int
    library: str | None

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def compile_gpu_subnet(
    key: str, network: NetworkSpec, weights: Weights, target: TargetSpec, winners: Winners, library: Path | None
) -> GpuSubnet:
    """Compile a subnet and keep its library.

    Args:
        key: the subnet's key.
        network: its layers.
        weights: folded weights.
        target: a GPU.
        winners: tuned schedules by kernel.
        library: where to write it; None to leave that out.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: the code was refused.
    """
    if not target.is_gpu:
        raise OfaTvmError(f"target {target.name} is no GPU")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{key}{target.library_suffix}"
        compiled_for = Target(target.attributes)
        linker, batch = target.toolchain.linker, target.batch
        build_network(network, weights, winners, compiled_for, linker, made, batch, target.dtype)
        size = sum(map(len, machine_code(made)))
        if not size:
            raise OfaTvmError(f"the library of {key} holds no device code", "see 'python -m ofa_tvm.doctor --target'")
        if library is not None:
            write_atomic(library, made.read_bytes())
    kernels = {kernel.key for kernel in kernel_calls(network, target)}
    tuned = len(kernels & winners.keys())
    return GpuSubnet(
        subnet=key,
        seconds=time.perf_counter() - start,
        tuned_kernels=tuned,
        default_kernels=len(kernels) - tuned,
        architecture=target.chip,
        device_code_bytes=size,
        library=None if library is None else str(library),
    )
