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
from ofa_tvm.devices.pack.measure import arranged, encode_places, inputs_of, sample
from ofa_tvm.devices.workers.kernel_jobs import stored_object
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import (
    Array,
    compute,
    input_shapes,
    layer_compute,
    layer_input_shapes,
    network_logits,
)
from ofa_tvm.graph.weights import PACKED_PERIOD, random_weights
from ofa_tvm.support.dtype import FLOAT32_BYTES
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record
from ofa_tvm.tuner.job import KernelJob, SubnetJob
from ofa_tvm.tuner.log import winners
from ofa_tvm.tuner.trial import TrialStatus

DIGIT, DIGITS = 1 << 10, 3
"""Places are told digit by digit: whole numbers up to here are exact in float16, too."""


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


def places_of(program: KernelProgram | CudaKernelProgram, inputs: list[Array]) -> np.ndarray:
    """Where in the inputs each number of a program's arguments comes from, see ``pack_measure.arranged``.

    Raises:
        OfaTvmError: its arguments are not the inputs in another order.
    """
    ends = np.cumsum([array.size for array in inputs])
    if ends[-1] >= DIGIT**DIGITS:
        raise OfaTvmError(f"{program.kernel.spec.key} is too large for a pack: {ends[-1]} inputs")
    numbers, packed = np.arange(1, ends[-1] + 1), program.inputs(inputs)
    places = np.zeros(len(packed) // FLOAT32_BYTES, np.int64)
    for power in (DIGIT**digit for digit in range(DIGITS)):
        parts = np.split((numbers // power % DIGIT).astype(np.float32), ends[:-1])
        numbered = [part.reshape(array.shape) for part, array in zip(parts, inputs, strict=True)]
        digits = np.frombuffer(program.inputs(numbered), np.float32)
        places += power * np.nan_to_num(digits).astype(np.int64)
    places[np.isnan(digits)] = -1
    flat = np.concatenate([array.ravel() for array in inputs])
    if arranged(flat, places).tobytes() != packed:
        raise OfaTvmError(f"{program.kernel.spec.key}: its arguments are not its inputs in another order")
    return places


def program(job: KernelJob, identity: str, folder: Path) -> BuiltEntry:
    """A kernel from a template: a library that runs and times it."""
    spec = job.kernel
    recipe = {"inputs": described(input_shapes(spec)), "dtype": spec.dtype}
    arrays = [array.astype(np.float32) for array in inputs_of(recipe)]
    with TemporaryDirectory() as name:
        library = Path(name) / "kernel.so"
        kernel_program = _gpu_program(job, arrays, library) if job.target.is_gpu else _cpu_program(job, arrays, library)
        stored = store(library, identity, folder)
    placed = _written(folder / f"{identity}.places", encode_places(places_of(kernel_program, arrays)))
    outputs, at = [], 0
    for shape in spec.output_shapes:
        outputs.append([at, list(shape)])
        at += aligned(FLOAT32_BYTES * int(np.prod(shape)))
    entry = {
        **stored,
        "files": {**stored["files"], **placed},
        "form": "program",
        "places": f"{identity}.places",
        "outputs": outputs,
        "output_bytes": kernel_program.output_bytes,
        "expected": _program_expected(spec),
        **recipe,
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
        "outputs": [[0, list(spec.output_shape)]],
        "expected": _function_expected(spec),
        **_function_inputs(spec),
    }
    return BuiltEntry(entry)


def _function_inputs(spec: KernelSpec) -> Record:
    return {"inputs": described(layer_input_shapes(spec)), "dtype": spec.dtype}


@functools.lru_cache(maxsize=4)
def _program_expected(spec: KernelSpec) -> Record:
    """Once for all candidates of a kernel, which follow each other."""
    recipe = {"inputs": described(input_shapes(spec)), "dtype": spec.dtype}
    return sample(compute(spec, [array.astype(np.float32) for array in inputs_of(recipe)]))


@functools.lru_cache(maxsize=4)
def _function_expected(spec: KernelSpec) -> Record:
    """Likewise."""
    return sample([layer_compute(spec, [array.astype(np.float32) for array in inputs_of(_function_inputs(spec))])])


def subnet(job: SubnetJob, identity: str, folder: Path) -> BuiltEntry:
    """A job's one subnet, with weights that compress well."""
    codegen = codegen_of(job.target)
    (network,) = job.subnets.networks
    weights = random_weights(network, period=PACKED_PERIOD)
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
        "outputs": [[0, list(logits.shape)]],
        "expected": sample([logits]),
        "inputs": inputs,
    }
    return BuiltEntry(entry)


def store(library: Path, identity: str, folder: Path) -> Record:
    """Compress a library into a pack; returns how an entry names it."""
    name = f"{identity}.so.z"
    return {"id": identity, "library": name, "files": _written(folder / name, zlib.compress(library.read_bytes(), 9))}


def _written(path: Path, data: bytes) -> dict[str, str]:
    """Write a file; its name and hash."""
    path.write_bytes(data)
    return {path.name: hashlib.sha256(data).hexdigest()}


def jobs() -> Mapping[str, Callable[..., object]]:
    """The jobs of one process."""
    return {"program": program, "function": function, "subnet": subnet}
