"""Run and time a single emitted kernel on this machine."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.assembly.memory_plan import ALIGNMENT, aligned
from ofa_tvm.compiler.cpu.emit import EmittedKernel
from ofa_tvm.compiler.cpu.emit.template import Array
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.c_library import c_compiler, load_library, native_library, run_compiler
from ofa_tvm.support.dtype import FLOAT32_BYTES, ArrayType
from ofa_tvm.support.errors import OfaTvmError

MAX_ARGUMENTS = 10
COLD_BYTES = 4 << 20
MAX_COPIES = 32
NAN_BITS = 0x7FC0


def copies_of(spec: KernelSpec) -> int:
    """How many copies of its constants a kernel cycles through when it is timed."""
    return min(MAX_COPIES, max(1, COLD_BYTES // max(1, spec.weight_bytes)))


def blank(output: ArrayType) -> Array:
    """An output before a kernel writes it: NaN, or bytes that are not all the same."""
    if output.dtype == "float32":
        return np.full(output.shape, np.nan, np.float32)
    if output.dtype == "uint16":
        return np.full(output.shape, NAN_BITS, np.uint16)
    return (np.arange(output.elements) * 91 % 256).astype(output.dtype).reshape(output.shape)


class KernelRunner:
    """A kernel that is ready to run.

    In a network, other weights have driven a kernel's weights out of the caches before each call, so calls cycle
    through several copies that together are larger than a core's own caches.

    Args:
        kernel: the kernel.
        code: its object file.
        tasks: threads.

    Raises:
        HostFault: there is no C compiler, or the machine lacks something else.
        OfaTvmError: the object could not be linked.
    """

    def __init__(self, kernel: EmittedKernel, code: Path, tasks: int) -> None:
        self._kernel, self._tasks = kernel, tasks
        self._time = native_library("ofa_tvm.compiler.native", ("stack_place.h", "timer.c"), "-pthread").time_kernel
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / f"kernel-{os.urandom(4).hex()}.so"
            command = [c_compiler() or "cc", "-shared", "-nostdlib", str(code), "-o", str(library)]
            run_compiler(command, f"{code} could not be linked")
            self._library = load_library(library)
        self._function = ctypes.cast(getattr(self._library, kernel.spec.symbol), ctypes.c_void_p)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs of inputs in the layouts of ``graph.numpy_reference``."""
        places = _Arguments(self._kernel, inputs, self._tasks, copies=1)
        self._call(places, 0, 0.0)
        return places.outputs()

    def time_ms(self, inputs: Sequence[Array], repeats: int, min_repeat_ms: float) -> list[float]:
        """Milliseconds of one call, for each repeat."""
        places = _Arguments(self._kernel, inputs, self._tasks, copies_of(self._kernel.spec))
        return self._call(places, repeats, min_repeat_ms)

    def _call(self, places: _Arguments, repeats: int, min_repeat_ms: float) -> list[float]:
        seconds = (ctypes.c_double * max(1, repeats))()
        error = self._time(
            self._function,
            (ctypes.c_void_p * MAX_ARGUMENTS)(*places.addresses),
            (ctypes.c_int64 * MAX_ARGUMENTS)(*places.steps),
            ctypes.c_int64(places.copies),
            ctypes.c_int64(places.scratch_argument),
            ctypes.c_int64(places.scratch_bytes),
            ctypes.c_int32(self._tasks),
            ctypes.c_int32(repeats),
            ctypes.c_double(min_repeat_ms / 1e3),
            seconds,
        )
        if error:
            raise OfaTvmError(f"a thread could not be started: {os.strerror(error)}")
        return [1e3 * value for value in seconds[:repeats]]


class _Arguments:
    """A kernel's arguments in memory."""

    def __init__(self, kernel: EmittedKernel, inputs: Sequence[Array], tasks: int, copies: int) -> None:
        spec = kernel.spec
        data = spec.data_inputs
        constants = kernel.pack(list(inputs[data : data + len(spec.weight_shapes)]))
        self.copies, self._spec = copies, spec
        self._arrays: list[NDArray[np.uint8]] = []
        self.addresses: list[int] = []
        self.steps: list[int] = []
        for array in inputs[:data]:
            self._add(array, 1)
        for array in constants:
            self._add(array, copies)
        if spec.residual:
            self._add(inputs[-1], 1)
        self._first_output = len(self._arrays)
        for output in spec.output_types:
            self._add(blank(output), 1)
        self.scratch_bytes = aligned(FLOAT32_BYTES * kernel.scratch_floats)
        self.scratch_argument = len(self.addresses) if self.scratch_bytes else -1
        if self.scratch_bytes:
            self._add(np.zeros(tasks * self.scratch_bytes // FLOAT32_BYTES, np.float32), 1)
        missing = MAX_ARGUMENTS - len(self.addresses)
        self.addresses += [0] * missing
        self.steps += [0] * missing

    def _add(self, array: Array, copies: int) -> None:
        step = aligned(array.nbytes)
        memory = np.empty(step * copies + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        for copy in range(copies):
            at = start + copy * step
            memory[at : at + array.nbytes] = np.frombuffer(np.ascontiguousarray(array), np.uint8)
        self._arrays.append(memory[start:])
        self.addresses.append(memory.ctypes.data + start)
        self.steps.append(step if copies > 1 else 0)

    def outputs(self) -> list[Array]:
        """What the kernel wrote."""
        types = self._spec.output_types
        outputs = self._arrays[self._first_output :][: len(types)]
        return [
            memory[: output.nbytes].view(output.dtype).reshape(output.shape)
            for memory, output in zip(outputs, types, strict=True)
        ]
