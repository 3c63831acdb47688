"""Small C sources of this package, built once into the user's cache where a C compiler is found."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from ofa_tvm.support.files import cache_folder
from ofa_tvm.support.host_faults import fault_of, is_host_fault

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")


def c_compiler() -> str | None:
    """A C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@lru_cache(maxsize=8)
def native_library(package: str, sources: tuple[str, ...], *flags: str) -> ctypes.CDLL | None:
    """The library of C sources in a package, or None where it cannot be built or loaded.

    Args:
        package: the package that holds it.
        sources: the files, read as one, e.g. ``timer.c``; the last one names the library.
        flags: beside ``FLAGS``.

    Raises:
        HostFault: the compiler found no space, memory or process.
    """
    compiler = c_compiler()
    if compiler is None:
        return None
    source = "\n".join(files(package).joinpath(name).read_text() for name in sources)
    cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0] if Path("/proc/cpuinfo").exists() else platform.machine()
    features = next((line for line in cpu.splitlines() if line.startswith("flags")), cpu)
    digest = hashlib.sha256("\n".join([source, features, *FLAGS, *flags]).encode()).hexdigest()[:16]
    library = cache_folder() / f"{Path(sources[-1]).stem}-{digest}.so"
    try:
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            made = library.with_suffix(f".{os.getpid()}.so")
            command = [compiler, *FLAGS, *flags, "-x", "c", "-", "-o", str(made)]
            built = subprocess.run(command, input=source, text=True, capture_output=True, check=False)
            if built.returncode != 0:
                if is_host_fault(RuntimeError(built.stderr)):
                    raise fault_of(" ".join(built.stderr.split())[-300:])
                return None
            made.replace(library)
        return ctypes.CDLL(str(library))
    except OSError:  # a cache that cannot be written, or whose libraries cannot be loaded
        return None
