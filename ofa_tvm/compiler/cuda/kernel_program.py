"""One kernel from a template as a library that runs and times it on the GPU of the machine that loads it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from ofa_tvm.compiler.assembly.c_compiler import compile_c
from ofa_tvm.compiler.assembly.memory_plan import aligned
from ofa_tvm.compiler.assembly.parts import native_source
from ofa_tvm.compiler.cuda.assembler import LIBRARIES, driver_source, launch_text
from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.template import Array
from ofa_tvm.support.dtype import FLOAT32_BYTES, ArrayType

PROGRAM = "cuda_kernel_program.c"


class CudaKernelProgram:
    """A kernel and the bytes of its arguments, as ``compiler.cpu.kernel_program.KernelProgram`` has them.

    Numbers travel as float32 whatever the kernel's type is: the library rounds them, and widens what the kernel wrote.

    Args:
        kernel: the kernel.
        architecture: of the GPU, ``sm_90``, say.
    """

    def __init__(self, kernel: EmittedCuda, architecture: str) -> None:
        self.kernel, self.architecture = kernel, architecture
        self.output_types = tuple(ArrayType(output.shape, "float32") for output in kernel.spec.output_types)
        self.output_bytes = sum(aligned(output.nbytes) for output in self.output_types)

    def inputs(self, inputs: Sequence[Array]) -> bytes:
        """All arguments, one after the other, from inputs as in ``graph.numpy_reference``; outputs are NaN."""
        wide = (array.astype(np.float32).tobytes() for array in self._arguments(inputs))
        return b"".join(data.ljust(aligned(len(data)), b"\0") for data in wide)

    def outputs(self, data: bytes) -> list[Array]:
        """What the kernel wrote, from the bytes that ``run`` gives."""
        arrays, at = [], 0
        for output in self.output_types:
            arrays.append(np.frombuffer(data, np.float32, output.elements, at).reshape(output.shape))
            at += aligned(output.nbytes)
        return arrays

    def build(self, inputs: Sequence[Array], compiler: str, library: Path, overlaps: bool = False) -> None:
        """Compile and link the library; its source stays beside it.

        Args:
            inputs: arrays as for ``inputs``, of which the sizes count.
            compiler: C compiler of the machine that the GPU is in.
            library: the file to write.
            overlaps: when timed, a call may start before the one before has ended, where the GPU can do that.

        Raises:
            UserError: a compiler is not installed.
            OfaTvmError: it refused the code.
        """
        arguments = self._arguments(inputs)
        places = list(accumulate((aligned(array.nbytes) for array in arguments), initial=0))
        scratch_bytes = self.kernel.scratch_bytes
        given = places if scratch_bytes else places[:-1]
        outputs = len(self.kernel.spec.output_types)
        defines = {
            "ARGUMENTS": len(arguments),
            "FIRST_OUTPUT": len(arguments) - outputs,
            "OUTPUTS": outputs,
            "INPUT_BYTES": sum(aligned(FLOAT32_BYTES * array.size) for array in arguments),
            "OUTPUT_BYTES": self.output_bytes,
            "MEMORY_BYTES": places[-1] + aligned(scratch_bytes),
            "ARGUMENT_LIST": ", ".join(f"{{{array.size}, {array.itemsize}}}" for array in arguments),
        }
        with tempfile.TemporaryDirectory() as folder:
            parts = [
                driver_source([self.kernel], self.architecture, len(given), Path(folder), overlaps),
                *(f"#define {name} {value}" for name, value in defines.items()),
                f"static const launch_t launch = {launch_text(0, self.kernel.launch, given)};",
                native_source(PROGRAM),
            ]
            compile_c(compiler, "\n".join(parts), library, True, libraries=LIBRARIES)

    def _arguments(self, inputs: Sequence[Array]) -> list[Array]:
        """Arrays of the types that the kernel reads and writes, in its order, without its scratch memory.

        Raises:
            TypeError: the template packs constants as other numbers than float32 and float16.
        """
        spec = self.kernel.spec
        data = spec.data_inputs
        constants = self.kernel.pack(list(inputs[data : data + len(spec.weight_shapes)]))
        if strange := {str(array.dtype) for array in constants} - {"float32", "float16"}:
            raise TypeError(f"kernel {spec.key} has constants of type {', '.join(sorted(strange))}")
        scales = [np.asarray(array, np.float32) for array in inputs[1:data]]
        residual = [np.asarray(inputs[-1], spec.dtype)] if spec.residual else []
        outputs = [np.full(output.shape, np.nan, output.dtype) for output in spec.output_types]
        return [np.asarray(inputs[0], spec.input_type.dtype), *scales, *constants, *residual, *outputs]
