"""Compiling and linking a C source for the machine that is meant."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ofa_tvm.compiler.tvm_api.headers import include_folders
from ofa_tvm.support.c_library import run_compiler
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.system_errors import naming


def compile_c(
    compiler: str,
    source: str,
    output: Path,
    is_library: bool,
    *objects: Path,
    libraries: Sequence[str] = ("-lpthread",),
) -> None:
    """Compile and link a C source and object files; the source stays beside the output.

    Args:
        compiler: C compiler of the machine that is meant.
        source: C code.
        output: the file to write.
        is_library: a library; else a program, static, compiled with ``STANDALONE``.
        objects: object files.
        libraries: the linker's options for what it needs.

    Raises:
        UserError: the compiler is not installed.
        OfaTvmError: it could not build the file.
    """
    require_compiler(compiler)
    text = output.with_suffix(".c")
    with naming(text):
        text.write_text(source, errors="surrogateescape")
    form = ["-shared", "-fPIC", "-fvisibility=hidden"] if is_library else ["-static", "-DSTANDALONE"]
    command = [compiler, "-x", "c", "-std=gnu11", "-O1", "-w", *form, *(f"-I{path}" for path in include_folders())]
    command += [str(text), "-x", "none", *map(str, objects), "-o", str(output), *libraries]
    run_compiler(command, f"{compiler} could not link {output.name}")


def require_compiler(compiler: str) -> None:
    """Check that a compiler is there.

    Raises:
        UserError: it is not installed.
    """
    if shutil.which(compiler) is None:
        triple, _, tool = compiler.rpartition("-")
        package = f"{tool}-{triple}" if triple else tool
        raise UserError(f"{compiler} is not installed", f"install it, e.g. apt install {package}")
