"""The library that reads a board's system files and chooses its cores."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ofa_tvm.compiler.assembly.c_compiler import compile_c


def build_probe(compiler: str, probe: Path) -> None:
    """Compile ``native/board_probe.c``.

    Args:
        compiler: C compiler of the board's machine.
        probe: the library to write.

    Raises:
        UserError: the compiler is not installed.
        OfaTvmError: it could not build the library.
    """
    native = files("ofa_tvm.compiler.native")
    parts = [native.joinpath(name).read_text() for name in ("packed.c", "board_probe.c")]
    compile_c(compiler, "\n".join(["#define _GNU_SOURCE", *parts]), probe, is_library=True)
