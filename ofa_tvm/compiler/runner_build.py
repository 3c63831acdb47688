"""The runner of a bundle: C++ sources that travel with the package, built once and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ofa_tvm.compiler.runner_headers import HEADER, HINT, finds_header, include_flags
from ofa_tvm.support.console import log, warn
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.made_again import compiled_folder, made, unsealed
from ofa_tvm.support.shipped import shipped_folder

# The same as in CMakeLists.txt.
COMPILE = ("-std=c++17", "-O2", "-DNDEBUG", "-ffunction-sections", "-fdata-sections")
WITHOUT_STB = ("-DOFA_TVM_NO_STB",)
LINK = ("-static-libstdc++", "-static-libgcc", "-s", "-Wl,--gc-sections")
LIBRARIES = ("-Wl,--no-as-needed", "-l:libdl.so.2", "-l:libpthread.so.0", "-Wl,--as-needed", "-lm")


def build_runner(compiler: str) -> Path:
    """The runner's program, built if the cache lacks it; without stb_image it reads no PNG and JPEG, and this says so.

    Args:
        compiler: a C++ compiler, e.g. ``g++``, or ``aarch64-linux-gnu-g++`` for another architecture.

    Raises:
        OfaTvmError: the compiler is missing or fails; says how to mend it.
    """
    if shutil.which(compiler) is None:
        raise OfaTvmError(f"{compiler} is not installed", f"install it, e.g. apt install {Path(compiler).name}")
    runtime = shipped_folder("runtime")
    sources = sorted(runtime.glob("src/*.cc"))
    if not sources:
        raise OfaTvmError(f"its sources are missing from {runtime}", "install the package again")
    flags = (*COMPILE, f"-I{runtime / 'include'}", *(include_flags() if finds_header(compiler) else WITHOUT_STB))
    if flags[-1:] == WITHOUT_STB:
        warn(f"the runner reads .ppm, .npy and .raw, but no .png and .jpg: {compiler} does not find {HEADER}; {HINT}")
    program = compiled_folder() / f"run-{_digest(runtime, compiler, flags)}"
    return made(program, lambda temporary: _build(compiler, sources, flags, temporary))


def _build(compiler: str, sources: list[Path], flags: Sequence[str], program: Path) -> None:
    log(f"building the runner with {compiler} (once) ...")
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(process_cores()) as pool:
        objects = [Path(name) / f"{source.stem}.o" for source in sources]
        commands = [
            [compiler, *flags, "-c", str(source), "-o", str(made)]
            for source, made in zip(sources, objects, strict=True)
        ]
        link = [compiler, *map(str, objects), "-o", str(program), *LINK, *LIBRARIES]
        compiled = list(pool.map(_run, commands))
        done = next((each for each in compiled if each.returncode != 0), None) or _run(link)
    if done.returncode != 0:
        raise OfaTvmError(f"{compiler} cannot build it: {done.stderr.strip()[-500:]}")


def add_runner(path: Path, compiler: str) -> None:
    """Put the runner into a bundle; where it cannot be built, say so and how to mend it.

    Args:
        path: where it goes.
        compiler: see ``build_runner``.
    """
    try:
        program = build_runner(compiler)
        path.write_bytes(unsealed(program))
        shutil.copymode(program, path)
    except (OfaTvmError, OSError) as error:
        what, hint = (error.what, error.hint) if isinstance(error, OfaTvmError) else (str(error), "")
        warn(f"the bundle gets no runner: {what}" + (f"; {hint}, then deploy again" if hint else ""))


def oldest_glibc(*files: Path) -> str | None:
    """The oldest version of glibc that has what these programs and libraries need, e.g. ``2.17``.

    Files that are not there do not count. None where binutils' readelf is missing or finds nothing.
    """
    if shutil.which("readelf") is None:
        return None
    done = _run(["readelf", "--version-info", "--wide", *(str(path) for path in files if path.exists())])
    needed = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", done.stdout)
    if not needed:
        return None
    return "{}.{}".format(*max((int(major), int(minor)) for major, minor in needed))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=settings)


def _digest(runtime: Path, compiler: str, flags: Sequence[str]) -> str:
    """Identity of the program: its sources and how it is built."""
    sha = hashlib.sha256("\0".join([compiler, _run([compiler, "--version"]).stdout, *flags, *LINK]).encode())
    for path in sorted(path for folder in ("src", "include") for path in (runtime / folder).iterdir()):
        sha.update(f"\0{path.name}\0".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]
