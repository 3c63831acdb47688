"""The modules that measure a pack: they lie in it as files, and run where this package is not installed."""

from __future__ import annotations

import re
from pathlib import Path

from ofa_tvm.devices.pack import digests, forms, measure, pack_files, tvm_runtime, wholeness
from ofa_tvm.support import nvml

MODULES = (measure, forms, digests, pack_files, wholeness, tvm_runtime, nvml)
_OWN_IMPORT = re.compile(r"^from ofa_tvm\.(?:\w+\.)*(\w+) import", re.MULTILINE)


def write_modules(folder: Path) -> None:
    """Write the modules into a folder, where they import each other by their last names alone."""
    for module in MODULES:
        path = Path(str(module.__file__))
        (folder / path.name).write_text(_OWN_IMPORT.sub(r"from \1 import", path.read_text()))
