"""TVM's runtime for a pack: the libraries that run a candidate, where this machine has them for the device's."""

from __future__ import annotations

import filecmp
import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ofa_tvm.devices.pack.tvm_runtime import CUDA_RUNTIME, CUDART, FFI, RUNTIME
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.system_errors import naming


def machine_of(target: TargetSpec) -> str:
    """The kind of machine that a target's libraries run on, as ``platform.machine`` names it."""
    return (target.target.mtriple or platform.machine()).split("-")[0]


def _library_names(target: TargetSpec) -> tuple[str, ...]:
    return (FFI, RUNTIME) if target.has_templates else (FFI, RUNTIME, CUDA_RUNTIME)


def copy_runtime(target: TargetSpec, folder: Path) -> bool:
    """Copy TVM's runtime into the pack where the device's machine is of this one's kind.

    Packs in one folder share the ``runtime`` that lies there, if there is one with the same libraries.
    """
    names = _library_names(target)
    libraries = {path.name: path for name in ("apache-tvm", "apache-tvm-ffi") for path in _files_of(name).values()}
    if machine_of(target) != platform.machine() or not set(names) <= libraries.keys():
        return False
    copied = {name: libraries[name] for name in names}
    cudart = None if target.has_templates else cuda_runtime()
    if cudart is not None:
        copied[CUDART] = cudart
    shared, own = folder.parent / "runtime", folder / "runtime"
    if all((shared / name).exists() and filecmp.cmp(shared / name, path) for name, path in copied.items()):
        return True
    own.mkdir(parents=True, exist_ok=True)
    for name, path in copied.items():
        with naming(own / name):  # copying would name what is copied, where the disk is full
            (own / name).write_bytes(path.read_bytes())
    return True


def runtime_libraries(target: TargetSpec) -> dict[str, Path]:
    """TVM's libraries that a GPU's bundle needs beside it, by name; empty where its machine is of another kind."""
    from ofa_tvm.compiler.cuda.program import CUDA_LIBRARIES

    if machine_of(target) != platform.machine():
        return {}
    packages = [*_files_of("apache-tvm").values(), *_files_of("apache-tvm-ffi").values()]
    libraries = {path.name: path for path in packages if path.name in CUDA_LIBRARIES}
    cudart = cuda_runtime()
    return libraries if cudart is None else {**libraries, CUDART: cudart}


def _files_of(package: str) -> dict[str, Path]:
    """Files of an installed package by their names in it."""
    return {str(file): Path(str(file.locate())) for file in metadata.files(package) or []}


def cuda_runtime() -> Path | None:
    """NVIDIA's runtime library, which TVM's runtime needs and a driver alone does not include."""
    spec = find_spec("nvidia")
    packages = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    places = [*(folder / "cu13" / "lib" for folder in packages), toolkit / "lib64"]
    return next((place / CUDART for place in places if (place / CUDART).exists()), None)


def about_runtime(target: TargetSpec, folder: Path, is_there: bool) -> str:
    """What a pack's README says about the runtime."""
    wheels = f"apache-tvm=={metadata.version('apache-tvm')} apache-tvm-ffi=={metadata.version('apache-tvm-ffi')}"
    if is_there:
        text = "They are in runtime/, here or beside this folder."
    else:
        names = ", ".join(_library_names(target))
        text = (
            f"Install them: pip install {wheels},\nor unpack these wheels for {target.target.mtriple} and put {names} "
            "into runtime/."
        )
    has_cudart = any((place / "runtime" / CUDART).exists() for place in (folder, folder.parent))
    if not (target.has_templates or has_cudart):
        text += f"\nTVM also needs {CUDART} there: pip install nvidia-cuda-runtime, or a CUDA toolkit 13."
    return f"{text}\nThe GPU's driver must know CUDA 13 (version 580 or newer)." if target.is_gpu else text
