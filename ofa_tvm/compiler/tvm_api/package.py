"""Import the ``tvm`` package: versions checked first, and without torch."""

from __future__ import annotations

import sys

from ofa_tvm.compiler.tvm_api.versions import check_versions

check_versions()

# tvm_ffi imports torch whenever it is installed, which costs seconds and memory in every process. A None entry makes
# that optional import fail; torch can be imported normally afterwards.
_is_torch_hidden = "torch" not in sys.modules
if _is_torch_hidden:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    import tvm
finally:
    if _is_torch_hidden:
        del sys.modules["torch"]

__all__ = ["tvm"]
