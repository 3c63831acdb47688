"""Jobs of the worker that builds what a pack holds; each writes its files and answers with an entry of the manifest."""

from __future__ import annotations

import functools
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ofa_tvm.compiler.assembly.memory_plan import aligned
from ofa_tvm.compiler.codegen import codegen_of
from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.cuda.build import build_kernel
from ofa_tvm.compiler.cuda.emit import EmittedCuda, default_schedule
from ofa_tvm.compiler.cuda.emit.gpu_model import gpu_model
from ofa_tvm.compiler.cuda.kernel_program import CudaKernelProgram
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.devices.pack.digests import expectation, inputs_of
from ofa_tvm.devices.workers.kernel_jobs import stored_object
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import (
    Array,
    compute,
    layer_compute,
    layer_input_shapes,
    network_logits,
    repeating_inputs,
)
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.graph.weights import PACKED_PERIOD
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.job import KernelJob, SubnetJob
from ofa_tvm.tuner.log import winners
from ofa_tvm.tuner.trial import TrialStatus

INPUTS_PERIOD = 127
"""Period of the random inputs of kernels; a prime, so that channels and rows differ."""


@dataclass(frozen=True)
class BuiltEntry:
    """An entry of the manifest, whose files are in the pack."""

    entry: Record
    status: TrialStatus = "ok"


def described(shapes: Sequence[tuple[int, ...]]) -> list[Record]:
    """Inputs as a manifest describes them: matrices are small enough to keep results in range."""
    return [
        {"shape": list(shape), "seed": seed, "scale": float(np.prod(shape[:-1])) ** -0.5}
        for seed, shape in enumerate(shapes, 1)
    ]


def program(job: KernelJob, identity: str, folder: Path) -> BuiltEntry:
    """A kernel from a template: a library that runs and times it."""
    inputs = _program_inputs(job.kernel)
    with TemporaryDirectory() as name:
        library = Path(name) / "kernel.so"
        kernel_program = _gpu_program(job, inputs, library) if job.target.is_gpu else _cpu_program(job, inputs, library)
        stored = store(library, identity, folder)
    arguments = f"{identity}.arguments.z"
    written = _written(folder / arguments, kernel_program.inputs(inputs))
    outputs, at = [], 0
    for output in kernel_program.output_types:
        outputs.append([at, list(output.shape), output.dtype])
        at += aligned(output.nbytes)
    entry = {
        **stored,
        "files": {**stored["files"], **written},
        "form": "program",
        "arguments": arguments,
        "outputs": outputs,
        "output_bytes": kernel_program.output_bytes,
        "expected": _program_expected(job.kernel),
    }
    return BuiltEntry(entry)


def _cpu_program(job: KernelJob, arrays: list[Array], library: Path) -> KernelProgram:
    """It guards itself: in the library, the kernel runs in a process of its own."""
    cache = ObjectCache(job.target.attributes)
    emitted = cache.kernel(job.kernel, job.schedule)
    made = KernelProgram(emitted, cache.features.cores)
    with stored_object(cache, emitted) as (code, _):
        made.build(code, arrays, job.target.toolchain.linker, library, standalone=False)
    return made


def _gpu_program(job: KernelJob, arrays: list[Array], library: Path) -> CudaKernelProgram:
    schedule = job.schedule or default_schedule(job.kernel, gpu_model(job.target.chip))
    made = CudaKernelProgram(EmittedCuda(job.kernel, schedule), job.target.chip)
    made.build(arrays, job.target.toolchain.linker, library)
    return made


def function(job: KernelJob, identity: str, folder: Path) -> BuiltEntry:
    """A kernel for a GPU: a library with a function of tensors."""
    spec, target = job.kernel, job.target
    with TemporaryDirectory() as name:
        library = Path(name) / "kernel.so"
        build_kernel(spec, job.schedule, Target(target.attributes), target.toolchain.linker, library)
        stored = store(library, identity, folder)
    entry = {
        **stored,
        "form": "function",
        "outputs": [[0, list(spec.output_shape), spec.dtype]],
        "expected": _function_expected(spec),
        **_function_inputs(spec),
    }
    return BuiltEntry(entry)


def _function_inputs(spec: KernelSpec) -> Record:
    return {"inputs": described(layer_input_shapes(spec)), "dtype": spec.dtype}


@functools.lru_cache(maxsize=4)
def _program_expected(spec: KernelSpec) -> Record:
    """Once for all candidates of a kernel, which follow each other."""
    return expectation(compute(spec, _program_inputs(spec)), spec.dtype == "int8")


def _program_inputs(spec: KernelSpec) -> list[Array]:
    """Inputs in a kernel's types."""
    return repeating_inputs(spec, INPUTS_PERIOD)


@functools.lru_cache(maxsize=4)
def _function_expected(spec: KernelSpec) -> Record:
    """Likewise."""
    inputs = [array.astype(np.float32) for array in inputs_of(_function_inputs(spec))]
    return expectation([layer_compute(spec, inputs)], is_exact=False)


def subnet(job: SubnetJob, identity: str, folder: Path) -> BuiltEntry:
    """A job's one subnet, with weights that compress well."""
    codegen = codegen_of(job.target)
    (network,) = job.subnets.networks
    weights = untrained_weights(network, job.target.dtype, period=PACKED_PERIOD)
    tuned = {} if job.subnets.folder is None else winners(job.subnets.folder)
    shape = (job.target.batch, network.resolution, network.resolution, network.in_channels)
    inputs = [{"shape": list(shape), "seed": 1, "scale": 1.0}]
    with TemporaryDirectory() as name:
        library = Path(name) / "subnet.so"
        codegen.build(network, weights, tuned, library)
        stored = store(library, identity, folder)
    logits = network_logits(network, weights, inputs_of({"inputs": inputs})[0])
    entry = {
        **stored,
        "form": codegen.form,
        "outputs": [[0, list(logits.shape), "float32"]],
        "expected": expectation([logits], job.target.dtype == "int8"),
        "inputs": inputs,
    }
    return BuiltEntry(entry)


def store(library: Path, identity: str, folder: Path) -> Record:
    """Compress a library into a pack; returns how an entry names it."""
    name = f"{identity}.so.z"
    return {"id": identity, "library": name, "files": _written(folder / name, library.read_bytes())}


def _written(path: Path, data: bytes) -> dict[str, str]:
    """Write data, compressed; the file's name and hash."""
    compressed = zlib.compress(data, 9)
    path.write_bytes(compressed)
    return {path.name: hashlib.sha256(compressed).hexdigest()}


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    return {"program": program, "function": function, "subnet": subnet}
