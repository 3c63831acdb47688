"""Import the ``tvm`` package: versions checked first, and without torch."""

from __future__ import annotations

import os
import sys

from ofa_tvm.compiler.tvm_api.versions import INSTALL, check_versions
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import cache_folder, home

check_versions()
try:
    home()
except UserError:  # TVM looks for a folder when it is imported, and fails where there is no home
    os.environ.setdefault("XDG_CACHE_HOME", str(cache_folder()))

# tvm_ffi imports torch whenever it is installed, which costs seconds and memory in every process. A None entry makes
# that optional import fail; torch can be imported normally afterwards.
_is_torch_hidden = "torch" not in sys.modules
if _is_torch_hidden:
    sys.modules["torch"] = None  # type: ignore[assignment]
try:
    import tvm
    import tvm_ffi
except Exception as error:  # a broken installation may raise anything
    raise UserError(f"TVM cannot be imported: {type(error).__name__}: {error}", INSTALL) from error
finally:
    if _is_torch_hidden:
        del sys.modules["torch"]

__all__ = ["tvm", "tvm_ffi"]
