"""Small C sources of this package, built once into the user's cache; running compilers, and loading what they make."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from ofa_tvm.support.console import log
from ofa_tvm.support.errors import HostFault, OfaTvmError, UserError
from ofa_tvm.support.host_faults import fault_of, is_host_fault, require_space
from ofa_tvm.support.made_again import compiled_folder, made

FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")
FOLDERS = "OFA_TVM_CACHE for the cache, TMPDIR for temporary files, --out for results"
MAX_SAID = 500
NO_COMPILER = "install one, e.g. apt install g++"


def c_compiler() -> str | None:
    """A C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def run_compiler(command: Sequence[str], failure: str, source: str | None = None) -> None:
    """Run a compiler or linker.

    Args:
        command: the command.
        failure: what is said before the compiler's own words if it fails.
        source: what it reads from stdin.

    Raises:
        HostFault: it found no space, memory or process.
        OfaTvmError: it refused what it was given.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, input=source, capture_output=True, text=True, errors="replace", check=False, env=environment
        )
    except OSError as error:
        if is_host_fault(error):
            raise fault_of(f"{command[0]} could not be started: {error.strerror}") from error
        raise
    if done.returncode == 0:
        return
    if is_host_fault(RuntimeError(done.stderr)):
        raise fault_of(" ".join(done.stderr.split())[-MAX_SAID:])
    require_space()
    raise OfaTvmError(f"{failure}: {done.stderr.strip()[-MAX_SAID:] or f'it ended with {done.returncode}'}")


def load_library(path: Path) -> ctypes.CDLL:
    """Load a library.

    Raises:
        OfaTvmError: see ``unloadable``.
    """
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise unloadable(path, error) from error


def unloadable(path: Path, error: Exception) -> OfaTvmError:
    """The error to raise for a library that the system does not load: the machine's fault where nothing may run."""
    if is_noexec(path.parent):
        return HostFault(
            f"{path} cannot be loaded: nothing may be run from that disk (it is mounted noexec)",
            f"use folders on another disk: {FOLDERS}",
        )
    if isinstance(error, UnicodeError):
        return UserError(f"{path} cannot be loaded: its name is no UTF-8 text", f"use other folders: {FOLDERS}")
    return OfaTvmError(f"{path} cannot be loaded: {error}")


def is_noexec(folder: Path) -> bool:
    """Whether nothing may be run from a folder's disk."""
    return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)


@lru_cache(maxsize=8)
def native_library(package: str, sources: tuple[str, ...], *flags: str) -> ctypes.CDLL:
    """The library of C sources in a package.

    Args:
        package: the package that holds it.
        sources: the files, read as one, e.g. ``timer.c``; the last one names the library.
        flags: beside ``FLAGS``.

    Raises:
        HostFault: there is no C compiler, it found no space, memory or process, or the library may not be loaded.
        OfaTvmError: the compiler refused the sources.
    """
    compiler = c_compiler()
    if compiler is None:
        raise HostFault(f"{sources[-1]} cannot be built: no C compiler was found", NO_COMPILER)
    source = "\n".join(files(package).joinpath(name).read_text() for name in sources)
    cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0] if Path("/proc/cpuinfo").exists() else platform.machine()
    features = next((line for line in cpu.splitlines() if line.startswith("flags")), cpu)
    digest = hashlib.sha256("\n".join([source, features, *FLAGS, *flags]).encode()).hexdigest()[:16]
    command = [compiler, *FLAGS, *flags, "-x", "c", "-", "-o"]
    path = made(
        compiled_folder() / f"{Path(sources[-1]).stem}-{digest}.so",
        lambda to: run_compiler([*command, str(to)], f"{compiler} could not build {sources[-1]}", source),
    )
    return load_library(path)


@lru_cache(maxsize=8)
def optional_library(package: str, sources: tuple[str, ...], *flags: str) -> ctypes.CDLL | None:
    """``native_library``, or None where it cannot be built or loaded, which is said if there is a compiler."""
    try:
        return native_library(package, sources, *flags)
    except (OfaTvmError, OSError) as error:
        if c_compiler() is not None:
            log(f"training will be slower: {error}")
        return None
