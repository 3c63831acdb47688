"""TVM's runtime for a pack: the libraries that run a candidate, where this machine has them for the device's."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from ofa_tvm.devices.pack import measure as pack_measure
from ofa_tvm.hardware.target import TargetSpec

CUDA_RUNTIME = "libcudart.so.13"


def machine_of(target: TargetSpec) -> str:
    """The kind of machine that a target's libraries run on, as ``platform.machine`` names it."""
    return (target.target.mtriple or platform.machine()).split("-")[0]


def _library_names(target: TargetSpec) -> tuple[str, ...]:
    return pack_measure.LIBRARIES[: 2 if target.is_gpu else 1]


def copy_runtime(target: TargetSpec, folder: Path) -> bool:
    """Copy TVM's runtime into the pack where the device's machine is of this one's kind."""
    names = _library_names(target)
    libraries = {path.name: path for path in _files_of("apache-tvm").values()}
    if machine_of(target) != platform.machine() or not set(names) <= libraries.keys():
        return False
    copied = {name: libraries[name] for name in names}
    copied |= {name: path for name, path in _files_of("apache-tvm-ffi").items() if _is_needed(Path(name))}
    copied |= {name: path for name, path in _files_of("typing_extensions").items() if name.endswith(".py")}
    cudart = cuda_runtime() if target.is_gpu else None
    if cudart is not None:
        copied[CUDA_RUNTIME] = cudart
    for name, path in copied.items():
        to = folder / "runtime" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
    return True


def runtime_libraries(target: TargetSpec) -> dict[str, Path]:
    """TVM's libraries that a GPU's bundle needs beside it, by name; empty where its machine is of another kind."""
    from ofa_tvm.compiler.cuda.program import CUDA_LIBRARIES

    if machine_of(target) != platform.machine():
        return {}
    packages = [*_files_of("apache-tvm").values(), *_files_of("apache-tvm-ffi").values()]
    libraries = {path.name: path for path in packages if path.name in CUDA_LIBRARIES}
    cudart = cuda_runtime()
    return libraries if cudart is None else {**libraries, CUDA_RUNTIME: cudart}


def _files_of(package: str) -> dict[str, Path]:
    """Files of an installed package by their names in it."""
    return {str(file): Path(str(file.locate())) for file in metadata.files(package) or []}


def cuda_runtime() -> Path | None:
    """NVIDIA's runtime library, which TVM's runtime needs and a driver alone does not include."""
    spec = find_spec("nvidia")
    packages = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    toolkit = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    places = [*(folder / "cu13" / "lib" for folder in packages), toolkit / "lib64"]
    return next((place / CUDA_RUNTIME for place in places if (place / CUDA_RUNTIME).exists()), None)


def _is_needed(path: Path) -> bool:
    """Whether a file of the package ``tvm_ffi`` is needed to run."""
    return path.parts[0] == "tvm_ffi" and path.parts[1] not in ("stub", "testing") and path.suffix in (".py", ".so")


def about_runtime(target: TargetSpec, folder: Path, is_there: bool) -> str:
    """What a pack's README says about the runtime."""
    wheels = f"numpy apache-tvm=={metadata.version('apache-tvm')} apache-tvm-ffi=={metadata.version('apache-tvm-ffi')}"
    if is_there:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        text = f"They are in runtime/, for Python {version};\nfor another Python 3.9 or newer: pip install {wheels}"
    else:
        text = (
            f"Install them (Python 3.9 or newer): pip install {wheels},\nor unpack these wheels for "
            f"{target.target.mtriple} and put {', '.join(_library_names(target))}\nand folder tvm_ffi into runtime/."
        )
    if target.is_gpu and not (folder / "runtime" / CUDA_RUNTIME).exists():
        text += f"\nTVM also needs {CUDA_RUNTIME} there: pip install nvidia-cuda-runtime, or a CUDA toolkit 13."
    return f"{text}\nThe GPU's driver must know CUDA 13 (version 580 or newer)." if target.is_gpu else text
