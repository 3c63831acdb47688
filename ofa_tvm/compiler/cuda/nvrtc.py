"""CUDA source to machine code of one architecture, on a machine that needs no GPU: by NVRTC, or by nvcc.

NVRTC is a library (the package ``nvidia-cuda-nvrtc``, or a CUDA toolkit's) that is called as it is, without further
packages and without the toolkit's headers for float32: what TVM's sources include is given in memory. Sources that
compute with float16 need the headers of the packages ``nvidia-cuda-runtime`` and ``nvidia-cuda-crt``, or a toolkit's.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ofa_tvm.support.errors import OfaTvmError, UserError

FIX = "pip install 'nvidia-cuda-nvrtc>=13,<14' (NVRTC, under NVIDIA's licence), or install a CUDA toolkit 13"

FLOAT16_HEADER = "cuda_fp16.h"
HEADERS_FIX = "pip install 'nvidia-cuda-runtime>=13,<14' 'nvidia-cuda-crt>=13,<14', or install a CUDA toolkit 13"

# TVM's sources start with these two includes where NVRTC compiles them.
_HEADERS = {
    b"cuda/std/cstdint": b"""
#pragma once
namespace cuda { namespace std {
typedef signed char int8_t; typedef unsigned char uint8_t;
typedef short int16_t; typedef unsigned short uint16_t;
typedef int int32_t; typedef unsigned int uint32_t;
typedef long long int64_t; typedef unsigned long long uint64_t;
} }
""",
    b"cuda/std/type_traits": b"""
#pragma once
namespace cuda { namespace std {
template <class T, class U> struct is_same { static constexpr bool value = false; };
template <class T> struct is_same<T, T> { static constexpr bool value = true; };
template <class T, class U> constexpr bool is_same_v = is_same<T, U>::value;
template <class T> struct is_integral; template <class T> struct is_signed; template <class T> struct is_unsigned;
template <class T> struct is_floating_point;
template <bool yes, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool yes, class T, class U> struct conditional { typedef T type; };
template <class T, class U> struct conditional<false, T, U> { typedef U type; };
} }
""",
}


@dataclass(frozen=True)
class CudaCompiler:
    """A CUDA compiler: its name and version, and the function from source and ``sm_XX`` to a cubin."""

    name: str
    version: str
    compile: Callable[[str, str], bytes]


def cubin(source: str, architecture: str) -> bytes:
    """Machine code of CUDA source.

    Args:
        source: as TVM generates it.
        architecture: ``sm_80``, say.

    Raises:
        UserError: no compiler is installed.
        OfaTvmError: it refused the source.
    """
    compiler = cuda_compiler()
    if compiler is None:
        raise UserError("CUDA code cannot be compiled: neither NVRTC nor nvcc was found", FIX)
    return compiler.compile(source, architecture)


@functools.cache
def cuda_compiler() -> CudaCompiler | None:
    """The compiler of this machine: NVRTC where it is, else nvcc."""
    library = _load_nvrtc()
    if library is not None:
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return CudaCompiler("NVRTC", f"{major.value}.{minor.value}", functools.partial(_by_nvrtc, library))
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    version = said.partition("release ")[2].partition(",")[0]
    return CudaCompiler("nvcc", version, functools.partial(_by_nvcc, nvcc)) if version else None


def has_float16_headers() -> bool:
    """Whether float16 sources compile, too: nvcc brings what they include, NVRTC does not."""
    compiler = cuda_compiler()
    return compiler is not None and (compiler.name == "nvcc" or bool(_header_folders()))


def _packages() -> list[Path]:
    spec = find_spec("nvidia")
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _toolkit() -> Path:
    return Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))


def _header_folders() -> list[Path]:
    """Where CUDA's headers are: pip's packages before a toolkit, newest first."""
    folders = [path for folder in _packages() for path in sorted(folder.glob("*/include"), reverse=True)]
    needed = (FLOAT16_HEADER, "crt/mma.h")
    return [path for path in [*folders, _toolkit() / "include"] if all((path / name).is_file() for name in needed)]


def _load_nvrtc() -> Any:
    """The newest NVRTC of pip's packages, or the system's; None where there is none."""
    libraries = [path for folder in _packages() for path in sorted(folder.glob("*/lib/libnvrtc.so.*"), reverse=True)]
    for path in [*libraries, _toolkit() / "lib64/libnvrtc.so.13", Path("libnvrtc.so.13")]:
        try:
            # Some versions look for this part in the system's folders only; once loaded, it is found.
            for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None


def _by_nvrtc(library: Any, source: str, architecture: str) -> bytes:
    if FLOAT16_HEADER in source and not _header_folders():
        raise UserError("float16 code cannot be compiled: CUDA's headers were not found", HEADERS_FIX)
    program = ctypes.c_void_p()
    count = len(_HEADERS)
    texts = (ctypes.c_char_p * count)(*_HEADERS.values())
    names = (ctypes.c_char_p * count)(*_HEADERS)
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", count, texts, names)
    options = [f"--gpu-architecture={architecture}".encode(), b"-default-device"]
    options += [f"--include-path={folder}".encode() for folder in _header_folders()]
    try:
        if library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)):
            said = _bytes(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
            raise OfaTvmError(f"NVRTC cannot compile for {architecture}: {_first_error(said.decode(errors='replace'))}")
        return _bytes(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(size_of: Any, get: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    get(program, buffer)
    return buffer.raw


def _by_nvcc(nvcc: str, source: str, architecture: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder) / "kernels.cu", Path(folder) / "kernels.cubin"
        text.write_text(source)
        command = [nvcc, "--cubin", "-arch", architecture, "-O3", "-w", "-o", str(binary), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise OfaTvmError(f"nvcc cannot compile for {architecture}: {_first_error(done.stdout + done.stderr)}")
        return binary.read_bytes()


def _first_error(said: str) -> str:
    lines = said.rstrip("\0").strip().splitlines() or ["no reason given"]
    return next((line for line in lines if "error" in line), lines[-1])[:300]
