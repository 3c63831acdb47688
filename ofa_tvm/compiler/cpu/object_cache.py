"""Emitted kernels as object files: compiled once, kept by key.

An object holds one plain C function, ``void symbol(int32_t task, float *, ...)``, and needs nothing: no runtime, no
allocation. TVM lowers and LLVM generates; the wrapper for packed arguments that TVM would put around is left out.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from ofa_tvm.compiler.cpu.emit import EmittedKernel, default_schedule
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.compiler.tvm_api.names import IRModule, Target, tirx, tvm
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record
from ofa_tvm.support.made_again import compiled_folder, keep, usable

PASSES = (tirx.transform.StmtSimplify, tirx.transform.LowerIntrin)
CLOSE_ON_EXEC = 1
OPTIMIZATION = 1
"""LLVM's level. Emitted code leaves little to optimise: higher levels take a fifth longer and are not faster."""


def generate(kernel: EmittedKernel, target: Target) -> Any:
    """TVM's runtime module of a kernel's machine code (``write_to_file``, ``inspect_source``)."""
    module = IRModule({kernel.spec.symbol: kernel.function()})
    module = tirx.transform.BindTarget(target.with_host(target))(module)
    lowered = tvm.ir.transform.Sequential([make() for make in PASSES])(module)
    return tvm.get_global_func("target.build.llvm")(lowered, target)


def object_code(kernel: EmittedKernel, target: Target) -> bytes:
    """A kernel's object file. LLVM writes it to memory: on a full disk it would end the process."""
    file = ctypes.CDLL(None, use_errno=True).memfd_create(b"kernel", CLOSE_ON_EXEC)  # not every Python has it in os
    if file < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with os.fdopen(file, "rb") as memory:
        generate(kernel, target).write_to_file(f"/proc/self/fd/{memory.fileno()}", "o")
        return memory.read()


class ObjectCache:
    """Object files of kernels for one target.

    Args:
        attributes: TVM's target attributes; ``num-cores`` threads share each kernel.
        folder: where they are kept (default: in the user's cache).

    Raises:
        UserError: LLVM does not know the CPU; it would generate code for any CPU without a word.
    """

    def __init__(self, attributes: Record, folder: Path | None = None) -> None:
        _require_cpu(str(attributes["mcpu"]), str(attributes.get("mtriple", "")))
        self.target = Target({**attributes, "opt-level": OPTIMIZATION})
        self.features = cpu_features(self.target)
        self._folder = folder or compiled_folder()
        self.compiled: list[Path] = []
        """What ``get`` has compiled."""
        self._identity = json.dumps([attributes, tvm.__version__, _sources_digest()], sort_keys=True)

    def kernel(self, spec: KernelSpec, schedule: KernelSchedule | None = None) -> EmittedKernel:
        """The kernel that a schedule makes, or its default one.

        Raises:
            ValueError: see ``EmittedKernel``.
        """
        return EmittedKernel(spec, schedule or default_schedule(spec, self.features), self.features)

    def path(self, spec: KernelSpec, schedule: KernelSchedule) -> Path:
        """Where the object is, or would be."""
        text = json.dumps([self._identity, spec.key, schedule], sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.o"

    def get(self, spec: KernelSpec, schedule: KernelSchedule) -> Path:
        """The object file, compiled if it is not there yet or damaged."""
        path = self.path(spec, schedule)
        if not usable(path):
            keep(path, object_code(self.kernel(spec, schedule), self.target))
            self.compiled.append(path)
        return path


@functools.cache
def _require_cpu(mcpu: str, triple: str) -> None:
    codegen = tvm.target.codegen
    triple = triple or codegen.llvm_get_system_triple()
    if not codegen.llvm_is_valid_cpu(mcpu, triple):
        raise UserError(f"LLVM knows no CPU '{mcpu}' for {triple}", "see mcpu and mtriple in the target's file")


@functools.cache
def _sources_digest() -> str:
    """Identity of the emitters: an object of other emitters is another object."""
    sha = hashlib.sha256()
    for path in sorted(files("ofa_tvm.compiler.cpu.emit").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".py"):
            sha.update(path.read_bytes())
    sha.update(Path(__file__).read_bytes())
    return sha.hexdigest()
