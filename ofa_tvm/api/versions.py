"""The versions of everything that a result rests on: this package, its compilers and libraries, Python, the system."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from ofa_tvm.hardware.machine import package_version
from ofa_tvm.support.version import VERSION

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "torch", "numpy", "onnx", "onnxruntime", "openvino")
XGBOOST = ("xgboost", "xgboost-cpu")
"""One of them is installed; the second lacks what GPUs need."""


def stack() -> Iterator[tuple[str, str]]:
    """Names and versions, this package's first; ``none`` is what is not installed.

    LLVM's comes last, as TVM must be imported to ask for it, and a broken one may end the process.
    """
    yield "ofa_tvm", VERSION
    for name in PACKAGES:
        yield name, package_version(name)
    yield "xgboost", next((found for name in XGBOOST if (found := package_version(name)) != "none"), "none")
    yield "Python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}, {platform.machine()}"
    yield "LLVM", _llvm()


def _llvm() -> str:
    try:
        from ofa_tvm.compiler.llvm import llvm_version

        return llvm_version()
    except Exception as error:  # a broken installation may raise anything
        return f"unknown: {error}"
