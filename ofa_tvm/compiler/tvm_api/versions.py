"""Refuse versions of TVM that are known to crash, before anything imports them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ofa_tvm.support.errors import UserError

TESTED = "0.27.0.post1"
INSTALL = f"pip install apache-tvm=={TESTED} apache-tvm-ffi==0.1.14.post1"
FIX_FFI = "pip install apache-tvm-ffi==0.1.14.post1"


def check_versions() -> None:
    """Check the installed apache-tvm and apache-tvm-ffi without importing them.

    Raises:
        UserError: one is missing, or the pair crashes when a tuning database saves its first workload.
    """
    try:
        tvm, ffi = version("apache-tvm"), version("apache-tvm-ffi")
    except PackageNotFoundError as error:
        raise UserError(f"the package {error.name} is not installed", INSTALL) from error
    if ffi.startswith("0.1.15"):
        raise UserError(f"apache-tvm-ffi {ffi} crashes with apache-tvm {tvm} when a workload is saved", FIX_FFI)
