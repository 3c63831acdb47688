"""One kernel as a file for another machine: a library that TVM's runtime loads, or a program that runs it once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.assembly.c_compiler import compile_c
from ofa_tvm.compiler.assembly.memory_plan import aligned
from ofa_tvm.compiler.assembly.parts import native_source
from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.emit.template import Array
from ofa_tvm.compiler.cpu.kernel_runner import blank, copies_of
from ofa_tvm.support.dtype import FLOAT32_BYTES

MAX_SECONDS = 20
"""A kernel that runs longer on a board is ended there."""


class KernelProgram:
    """A kernel and the bytes of its arguments.

    Args:
        kernel: the kernel.
        tasks: threads that share it.
    """

    def __init__(self, kernel: EmittedKernel, tasks: int) -> None:
        self.kernel, self.tasks = kernel, tasks
        spec = kernel.spec
        self._scratch_bytes = aligned(FLOAT32_BYTES * kernel.scratch_floats)
        self.output_types = spec.output_types
        self.output_bytes = sum(aligned(output.nbytes) for output in spec.output_types)

    def inputs(self, inputs: Sequence[Array]) -> bytes:
        """All arguments, one after the other, from inputs as in ``graph.numpy_reference``; outputs are NaN."""
        return b"".join(data.ljust(aligned(len(data)), b"\0") for data, _ in self._arguments(inputs))

    def outputs(self, data: bytes) -> list[Array]:
        """What the kernel wrote, from the bytes that ``run`` gives."""
        arrays, at = [], 0
        for output in self.output_types:
            arrays.append(np.frombuffer(data, output.dtype, output.elements, at).reshape(output.shape))
            at += aligned(output.nbytes)
        return arrays

    def build(self, code: Path, inputs: Sequence[Array], compiler: str, program: Path, standalone: bool) -> None:
        """Compile and link.

        Args:
            code: the kernel's object file.
            inputs: arrays as for ``inputs``, of which the sizes count.
            compiler: C compiler of the machine that is meant.
            program: the file to write.
            standalone: a program, static, so that it runs anywhere; else a library.

        Raises:
            UserError: the compiler is not installed.
            OfaTvmError: it could not build the file.
        """
        compile_c(compiler, self._source(inputs), program, not standalone, code)

    def _arguments(self, inputs: Sequence[Array]) -> list[tuple[bytes, bool]]:
        """Bytes of each argument, and whether it is constant."""
        spec = self.kernel.spec
        data = spec.data_inputs
        constants = self.kernel.pack(list(inputs[data : data + len(spec.weight_shapes)]))
        arguments = [(_bytes(array), False) for array in inputs[:data]]
        arguments += [(_bytes(array), True) for array in constants]
        if spec.residual:
            arguments.append((_bytes(inputs[-1]), False))
        arguments += [(_bytes(blank(output)), False) for output in spec.output_types]
        if self._scratch_bytes:
            arguments.append((bytes(self.tasks * self._scratch_bytes), False))
        return arguments

    def _source(self, inputs: Sequence[Array]) -> str:
        spec, arguments = self.kernel.spec, self._arguments(inputs)
        sizes = [aligned(len(data)) for data, _ in arguments]
        scratch = len(sizes) - 1 if self._scratch_bytes else -1
        outputs = len(spec.output_shapes)
        defines = {
            "KERNEL": spec.symbol,
            "TASKS": self.tasks,
            "ARGUMENTS": len(sizes),
            "INPUT_BYTES": sum(sizes),
            "OUTPUT_BYTES": self.output_bytes,
            "OUTPUTS": outputs,
            "FIRST_OUTPUT": len(sizes) - outputs - bool(self._scratch_bytes),
            "SCRATCH_ARGUMENT": scratch,
            "SCRATCH_BYTES": self._scratch_bytes,
            "COPIES": copies_of(spec),
            "MAX_SECONDS": MAX_SECONDS,
        }
        return "\n".join(
            [
                "#define _GNU_SOURCE",
                "#include <errno.h>",
                native_source("packed.c"),
                native_source("stack_place.h"),
                native_source("timer.c"),
                *(f"#define {name} {value}" for name, value in defines.items()),
                f"static const int64_t sizes[] = {{{', '.join(map(str, sizes))}}};",
                f"static const int is_constant[] = {{{', '.join(str(int(constant)) for _, constant in arguments)}}};",
                f"extern void {spec.symbol}();",
                native_source("kernel_program.c"),
            ]
        )


def _bytes(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()
