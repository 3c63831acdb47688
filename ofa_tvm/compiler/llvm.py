"""Which LLVM generates the code; imports TVM."""

from __future__ import annotations

from ofa_tvm.compiler.tvm_api.package import tvm


def llvm_version() -> str:
    """The major version of the LLVM that TVM contains."""
    return str(tvm.target.codegen.llvm_version_major())
