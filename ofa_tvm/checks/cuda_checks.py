"""What an NVIDIA target needs: a compiler here; and where code runs, a GPU, its driver and CUDA's runtime library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ofa_tvm.checks.machine_checks import TINY_KERNEL, Check
from ofa_tvm.hardware.machine import local_gpu
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.hardware.target_files import is_gpu_target, load_target
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.nvml import gpu_millijoules

OLDEST_DRIVER = 580
"""TVM's CUDA runtime is built for CUDA 13, which this driver brings."""
UNKNOWN_GPU = "cuda-sm80"
"""Compiled for in a check where the GPU is not known."""


def cuda_checks(name: str, device: str | None = None, dtype: DType | None = None) -> Iterator[Check]:
    """Check an NVIDIA target piece by piece; nothing for other targets.

    Args:
        name: as for ``load_target``.
        device: as for ``load_target``.
        dtype: as for ``load_target``.
    """
    if not is_gpu_target(name):
        return
    try:
        target: TargetSpec | None = load_target(name, device=device, dtype=dtype)
    except OfaTvmError:  # ``target_checks`` says what is wrong
        target = None
    tvm_schedules = target is None or not target.has_templates
    compiler = _compiler()
    yield compiler
    if compiler.status == "ok":
        if tvm_schedules:
            yield _float16_headers()
        yield _tiny_kernel(target or load_target(UNKNOWN_GPU))
    runs_here = target is None or target.device == "local"
    yield from _gpu(runs_here, tvm_schedules)


def _compiler() -> Check:
    from ofa_tvm.compiler.cuda.nvrtc import FIX, cuda_compiler

    compiler = cuda_compiler()
    if compiler is None:
        return Check("CUDA compiler", "fail", "neither NVRTC nor nvcc was found", FIX)
    return Check("CUDA compiler", "ok", f"{compiler.name} {compiler.version}")


def _float16_headers() -> Check:
    from ofa_tvm.compiler.cuda.nvrtc import HEADERS_FIX, has_float16_headers

    if has_float16_headers():
        return Check("CUDA headers", "ok", "float16 code compiles")
    return Check("CUDA headers", "warn", "not found: --dtype float16 cannot be compiled", HEADERS_FIX)


def _tiny_kernel(target: TargetSpec) -> Check:
    from ofa_tvm.compiler.assembly.c_compiler import require_compiler
    from ofa_tvm.compiler.cuda.build import build_kernel
    from ofa_tvm.compiler.cuda.device_code import machine_code
    from ofa_tvm.compiler.tvm_api.names import Target

    try:
        require_compiler(target.toolchain.linker)
        with TemporaryDirectory() as folder:
            library = Path(folder) / "kernel.so"
            build_kernel(TINY_KERNEL, {}, Target(target.attributes), target.toolchain.linker, library)
            size = sum(map(len, machine_code(library)))
    except OfaTvmError as error:
        return Check("tiny CUDA kernel", "fail", error.what, error.hint)
    arch = target.chip
    return Check("tiny CUDA kernel", "ok", f"compiles for {arch}: its library holds {size} bytes of machine code")


def _gpu(runs_here: bool, tvm_schedules: bool) -> Iterator[Check]:
    gpu = local_gpu()
    if gpu is None:
        fix = "install NVIDIA's driver, or measure elsewhere: tune --target cuda-smXX --export-pack FOLDER"
        elsewhere = "none here: what is tuned for is measured elsewhere, by packs (tune --export-pack FOLDER)"
        yield (
            Check("GPU", "fail", "none: nvidia-smi does not answer", fix)
            if runs_here
            else Check("GPU", "warn", elsewhere, "nothing to do; with an NVIDIA GPU here, --target cuda uses it")
        )
        return
    yield Check("GPU", "ok", f"{gpu.name}, {gpu.arch}, driver {gpu.driver}")
    major = gpu.driver.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_DRIVER:
        fix = f"install driver {OLDEST_DRIVER} or newer: TVM's runtime is built for CUDA 13"
        yield Check("GPU driver", "fail" if runs_here else "warn", f"{gpu.driver} is too old", fix)
    if gpu_millijoules() is None:
        yield Check("GPU energy", "warn", "its driver counts none (NVML)", "nothing to do: costs leave it out")
    else:
        yield Check("GPU energy", "ok", "metered by the driver (NVML)")
    if not tvm_schedules:
        return
    from ofa_tvm.devices.pack.runtime import cuda_runtime

    runtime = cuda_runtime()
    if runtime is None:
        fix = "pip install 'nvidia-cuda-runtime>=13,<14', or install a CUDA toolkit 13"
        yield Check("CUDA runtime", "fail" if runs_here else "warn", "libcudart.so.13 was not found", fix)
    else:
        yield Check("CUDA runtime", "ok", str(runtime))
