"""Kernels and subnets for an NVIDIA GPU: one function a layer, scheduled by a trace, by us or by DLight's rules.

Nothing here needs a GPU: device code is compiled for the target's architecture and lies in the library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.cuda.depthwise import schedule_depthwise
from ofa_tvm.compiler.cuda.device_code import with_machine_code, write_packed
from ofa_tvm.compiler.cuda.nvrtc import cubin
from ofa_tvm.compiler.cuda.squeeze_excite import default_squeeze_excite
from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.relax_builder import build_relax
from ofa_tvm.compiler.scheduled.trace_json import trace_from_json
from ofa_tvm.compiler.tvm_api.names import IRModule, Schedule, Target, dlight, load_tensor_intrinsics, tvm
from ofa_tvm.compiler.tvm_api.quiet import without_chatter
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec, Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType

FALLBACK = "TVM_COMPILE_FORCE_FALLBACK"
NO_STORAGE_REWRITE = {"tirx.disable_storage_rewrite": True}
"""TVM's pass lets float32 sums of tensor cores share memory with float16 maps, and the next pass refuses that."""
PASSES = {"relax.backend.use_cuda_graph": True}
"""One CUDA graph launch for all between a network's input and output: small networks are bound by launches."""

OWN_DEFAULTS: Mapping[str, Callable[[KernelSpec], Schedule | None]] = {
    "depthwise": schedule_depthwise,
    "squeeze_excite": default_squeeze_excite,
}


def scheduled(spec: KernelSpec, schedule: KernelSchedule, target: Target) -> IRModule:
    """A kernel's function with thread blocks and threads.

    Args:
        spec: the kernel.
        schedule: ``{"trace": ...}``, or ``{}`` for the default.
        target: a GPU.
    """
    own_schedule = _own_schedule(spec, schedule)
    return default_scheduled(kernel_workload(spec), target) if own_schedule is None else own_schedule.mod


def _own_schedule(spec: KernelSpec, schedule: KernelSchedule) -> Schedule | None:
    """A schedule by a trace, or the default one of a kind that DLight does badly; None leaves a kernel to DLight."""
    if "trace" in schedule or spec.dtype == "float16":
        load_tensor_intrinsics()  # DLight would import them, too, in a minute
    if "trace" in schedule:
        trace = Schedule(kernel_workload(spec))
        trace_from_json(schedule["trace"], spec).apply_to_schedule(trace, remove_postproc=False)
        return trace
    default = OWN_DEFAULTS.get(spec.kind)
    return None if default is None else default(spec)


def default_scheduled(module: IRModule, target: Target) -> IRModule:
    """A module whose functions without a schedule got one by DLight's rules, which cover everything."""
    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())
    with target:
        return dlight.ApplyDefaultSchedule(*rules)(module)


def build_kernel(spec: KernelSpec, schedule: KernelSchedule, target: Target, linker: str, library: Path) -> None:
    """Compile a kernel into a library whose ``main`` takes the arguments of ``kernel_tir``.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: it refused the code.
    """
    with _source_only():
        _export(_compiled(scheduled(spec, schedule, target), target, spec.dtype, {}), target, linker, library)


def cuda_source(module: IRModule, target: Target, dtype: DType = "float32") -> str:
    """CUDA code of scheduled functions."""
    with _source_only():
        return "".join(_cuda_sources(_compiled(module, target, dtype, {})))


def _compiled(module: IRModule, target: Target, dtype: DType, passes: Mapping[str, bool]) -> Any:
    needed = {} if dtype == "float32" else NO_STORAGE_REWRITE
    with tvm.transform.PassContext(config={**passes, **needed}):
        return tvm.compile(module, target=target).mod


def build_network(
    network: NetworkSpec,
    weights: Weights,
    winners: Winners,
    target: Target,
    linker: str,
    library: Path,
    batch: int,
    dtype: DType = "float32",
) -> None:
    """Compile a subnet into a library for TVM's virtual machine.

    Args:
        network: the subnet.
        weights: folded weights, see ``graph.weights``.
        winners: tuned schedules by kernel; others run the default.
        target: a GPU.
        linker: of the machine that the GPU is in.
        library: the file to write.
        batch: images per call.
        dtype: of maps and weights; images and logits are float32.

    Raises:
        UserError: no CUDA compiler is installed.
        OfaTvmError: it refused the code.
    """
    module = build_relax(network, weights, batch, dtype)
    for spec in dict.fromkeys(spec for _, spec in network_kernels(network, batch, dtype)):
        own_schedule = _own_schedule(spec, winners.get(spec.key, {}))
        if own_schedule is not None:
            function = own_schedule.mod["main"].without_attr("global_symbol").with_attr("tirx.is_scheduled", True)
            module.update_func(module.get_global_var(spec.symbol), function)
    with _source_only(), without_chatter():
        _export(_compiled(module, target, dtype, PASSES), target, linker, library)


@contextmanager
def _source_only() -> Iterator[None]:
    """Keep TVM from compiling CUDA itself where there is a GPU, so that there is one way everywhere."""
    before = os.environ.get(FALLBACK)
    os.environ[FALLBACK] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FALLBACK]
        else:
            os.environ[FALLBACK] = before


def _cuda_sources(module: Any) -> list[str]:
    sources = [str(module.inspect_source("cuda"))] if module.kind == "cuda" else []
    return [*sources, *(source for child in module.imports for source in _cuda_sources(child))]


def _export(module: Any, target: Target, linker: str, library: Path) -> None:
    def pack(root: Any, is_system_lib: bool, prefix: str, folder: str) -> str:
        packed = tvm.get_global_func("runtime.ModulePackImportsToTensor")(root).numpy().tobytes()
        repacked = with_machine_code(packed, _cuda_sources(root), lambda source: cubin(source, str(target.arch)))
        return str(write_packed(repacked, Path(folder)))

    module.export_library(str(library), fcompile=tvm.support.cc.create_shared, cc=linker, fpack_imports=pack)
