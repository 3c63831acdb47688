"""Where the headers of TVM's calling convention are."""

from __future__ import annotations

from tvm_ffi import libinfo


def include_folders() -> list[str]:
    """Folders for a C compiler's ``-I``."""
    return [str(path) for path in dict.fromkeys((libinfo.find_include_path(), libinfo.find_dlpack_include_path()))]
