"""TVM's runtime through its C interface (``tvm/ffi/c_api.h``), for any Python from 3.9 on.

It lies in a pack beside ``measure.py`` and knows nothing of ofa_tvm. The Python package ``tvm_ffi`` is not used: its
core is compiled for one version of Python.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FFI = "libtvm_ffi.so"
RUNTIME, CUDA_RUNTIME = "libtvm_runtime.so", "libtvm_runtime_cuda.so"
CUDART = "libcudart.so.13"
VERSION = (0, 1)
"""Of the interface: what is below was written for it."""
CPU, CUDA = 1, 2
"""DLPack's numbers of devices."""
DTYPES = {"int": 0, "uint": 1, "float": 2}
NONE, INT, BOOL, FLOAT, POINTER, DTYPE, DEVICE, STRING, SMALL_BYTES = 0, 1, 2, 3, 4, 5, 6, 8, 12
OBJECT, BYTES, FUNCTION, TENSOR, MODULE = 64, 66, 68, 70, 73
"""Kinds of values, ``TVMFFITypeIndex``; objects are counted."""
Array = Any
"""Of numpy, whose types older versions do not know."""


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Content(ctypes.Union):
    _fields_ = (
        ("integer", ctypes.c_int64),
        ("real", ctypes.c_double),
        ("pointer", ctypes.c_void_p),
        ("text", ctypes.c_char_p),
        ("dtype", _DataType),
        ("device", _Device),
        ("small", ctypes.c_char * 8),
    )


class _Any(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("length", ctypes.c_uint32), ("content", _Content))


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))

    def read(self) -> bytes:
        """A copy."""
        return ctypes.string_at(self.data, self.size) if self.size else b""


class _Header(ctypes.Structure):
    _fields_ = (
        ("references", ctypes.c_uint64),
        ("kind", ctypes.c_int32),
        ("padding", ctypes.c_uint32),
        ("deleter", ctypes.c_void_p),
    )


class _Error(ctypes.Structure):
    _fields_ = (("header", _Header), ("kind", _Bytes), ("message", _Bytes))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("header", _Header),
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("dimensions", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
    )


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("patch", ctypes.c_uint32))


class Runtime:
    """TVM's runtime libraries, loaded.

    Args:
        folders: where the libraries are looked for first; then in installed packages, then where the system looks.
        kind: ``cpu`` or ``cuda``.

    Raises:
        OSError: a library cannot be loaded.
        RuntimeError: it has another interface.
    """

    def __init__(self, folders: Sequence[Path], kind: str) -> None:
        packages = [Path(place) for place in sys.path]
        inside = ("tvm_ffi/lib", "tvm/lib", "nvidia/cu13/lib")
        places = [*folders, *(package / inner for package in packages for inner in inside)]

        def loaded(name: str) -> ctypes.CDLL:
            library = next((place / name for place in places if (place / name).exists()), name)
            return ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)

        self._ffi = loaded(FFI)
        version = _Version()
        self._ffi.TVMFFIGetVersion(ctypes.byref(version))
        if (version.major, version.minor) != VERSION:
            raise RuntimeError(f"{FFI} is version {version.major}.{version.minor}, not {'.'.join(map(str, VERSION))}")
        for name in (RUNTIME, CUDART, CUDA_RUNTIME) if kind == "cuda" else (RUNTIME,):
            loaded(name)
        self.device = _Device(CUDA if kind == "cuda" else CPU, 0)

    def function(self, name: str) -> Function:
        """A function of the runtime.

        Raises:
            LookupError: there is none of that name.
        """
        text = ctypes.create_string_buffer(name.encode())
        handle, key = ctypes.c_void_p(), _Bytes(ctypes.cast(text, ctypes.c_void_p), len(text.value))
        self._ffi.TVMFFIFunctionGetGlobal(ctypes.byref(key), ctypes.byref(handle))
        if not handle.value:
            raise LookupError(f"TVM's runtime has no function {name}")
        return Function(self, handle.value)

    def module(self, path: Path) -> Module:
        """A library's functions."""
        module = self.function("ffi.ModuleLoadFromFile")(str(path))
        assert isinstance(module, Module)
        return module

    def tensor(self, array: Array) -> Tensor:
        """A copy of an array where the code runs."""
        array = np.ascontiguousarray(array)
        shape = self.function("ffi.Shape")(*array.shape)
        kind = _DataType(DTYPES[array.dtype.name.rstrip("0123456789")], 8 * array.itemsize, 1)
        tensor = self.function("runtime.TVMTensorAllocWithScope")(shape, kind, self.device, None)
        self.function("runtime.TVMTensorCopyFromBytes")(tensor, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        assert isinstance(tensor, Tensor)
        return tensor

    def call(self, function: int, arguments: Sequence[object]) -> Any:  # noqa: ANN401
        """What a function gives.

        Raises:
            RuntimeError: it failed; as it says.
        """
        values = (_Any * len(arguments))(*map(_any, arguments))
        answer = _Any()
        failed = self._ffi.TVMFFIFunctionCall(
            ctypes.c_void_p(function), values, ctypes.c_int32(len(arguments)), ctypes.byref(answer)
        )
        if failed:
            raise RuntimeError(self._error())
        return self._value(answer)

    def _error(self) -> str:
        handle = ctypes.c_void_p()
        self._ffi.TVMFFIErrorMoveFromRaised(ctypes.byref(handle))
        if not handle.value:
            return "it failed without a word"
        error = ctypes.cast(handle, ctypes.POINTER(_Error)).contents
        said = f"{error.kind.read().decode()}: {error.message.read().decode(errors='replace')}"
        self.release(handle.value)
        return said

    def _value(self, answer: _Any) -> Any:  # noqa: ANN401
        kind, content = answer.kind, answer.content
        if kind == NONE:
            return None
        if kind in (INT, BOOL):
            return content.integer
        if kind == FLOAT:
            return content.real
        if kind == SMALL_BYTES:
            return ctypes.string_at(ctypes.addressof(content), answer.length)
        if kind < OBJECT:
            raise RuntimeError(f"TVM's runtime answered with a value of kind {kind}")
        if kind == BYTES:
            at = content.pointer + ctypes.sizeof(_Header)
            data = ctypes.cast(at, ctypes.POINTER(_Bytes)).contents.read()
            self.release(content.pointer)
            return data
        return {FUNCTION: Function, MODULE: Module, TENSOR: Tensor}.get(kind, Object)(self, content.pointer)

    def release(self, handle: int) -> None:
        """Give up an object."""
        self._ffi.TVMFFIObjectDecRef(ctypes.c_void_p(handle))


class Object:
    """Something that the runtime owns; given up with the last reference to it."""

    def __init__(self, runtime: Runtime, handle: int) -> None:
        self.runtime, self.handle = runtime, handle

    def __del__(self) -> None:
        self.runtime.release(self.handle)


class Function(Object):
    """Something to call."""

    def __call__(self, *arguments: object) -> Any:  # noqa: ANN401
        """Call it with numbers, texts, objects, types, devices and addresses."""
        return self.runtime.call(self.handle, arguments)


class Module(Object):
    """Functions by name."""

    def __getitem__(self, name: str) -> Function:
        function = self.runtime.function("ffi.ModuleGetFunction")(self, name, False)
        if not isinstance(function, Function):
            raise LookupError(f"the library has no function {name}")
        return function


class Tensor(Object):
    """Numbers where the code runs."""

    def array(self) -> Array:
        """A copy of them here."""
        tensor = ctypes.cast(self.handle, ctypes.POINTER(_Tensor)).contents
        name = next(name for name, code in DTYPES.items() if code == tensor.dtype.code)
        array = np.empty(tensor.shape[: tensor.dimensions], f"{name}{tensor.dtype.bits}")
        copy = self.runtime.function("runtime.TVMTensorCopyToBytes")
        copy(self, ctypes.c_void_p(array.ctypes.data), array.nbytes)
        return array


def _any(value: object) -> _Any:
    if isinstance(value, Object):
        kind = ctypes.cast(value.handle, ctypes.POINTER(_Header)).contents.kind
        return _Any(kind, 0, _Content(pointer=value.handle))
    kind, content = _plain(value)
    return _Any(kind, 0, content)


def _plain(value: object) -> tuple[int, _Content]:
    makers: dict[type, Callable[[Any], tuple[int, _Content]]] = {
        type(None): lambda _: (NONE, _Content(integer=0)),
        bool: lambda flag: (BOOL, _Content(integer=flag)),
        int: lambda number: (INT, _Content(integer=number)),
        float: lambda number: (FLOAT, _Content(real=number)),
        str: lambda text: (STRING, _Content(text=text.encode())),
        _DataType: lambda dtype: (DTYPE, _Content(dtype=dtype)),
        _Device: lambda device: (DEVICE, _Content(device=device)),
        ctypes.c_void_p: lambda address: (POINTER, _Content(pointer=address.value)),
    }
    return makers[type(value)](value)
