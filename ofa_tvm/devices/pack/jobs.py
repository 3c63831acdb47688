"""Jobs of the worker that builds what a pack holds; each writes its files and answers with an entry of the manifest."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.kernel_program import KernelProgram
from ofa_tvm.compiler.cpu.memory_plan import aligned
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.cuda.build import build_kernel, build_network
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.devices.pack.measure import arranged, encode_places, inputs_of, sample
from ofa_tvm.devices.workers.kernel_jobs import Answer, stored_object
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
from ofa_tvm.spaces import SubnetConfig, get_space
from ofa_tvm.support.dtype import FLOAT32_BYTES, DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.tuner.log import winners as log_winners

MAX_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""


def described(shapes: Sequence[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Inputs as a manifest describes them: matrices are small enough to keep results in range."""
    return [
        {"shape": list(shape), "seed": seed, "scale": float(np.prod(shape[:-1])) ** -0.5}
        for seed, shape in enumerate(shapes, 1)
    ]


def places_of(program: KernelProgram, inputs: list[Array]) -> np.ndarray:
    """Where in the inputs each number of a program's arguments comes from, see ``pack_measure.arranged``.

    Raises:
        OfaTvmError: its arguments are not the inputs in another order.
    """
    ends = np.cumsum([array.size for array in inputs])
    if ends[-1] >= MAX_EXACT:
        raise OfaTvmError(f"{program.kernel.spec.key} is too large for a pack: {ends[-1]} inputs")
    numbers = np.arange(1, ends[-1] + 1, dtype=np.float32)
    parts = np.split(numbers, ends[:-1])
    numbered = [part.reshape(array.shape) for part, array in zip(parts, inputs, strict=True)]
    bytes_as_numbers = np.frombuffer(program.inputs(numbered), np.float32)
    places = np.where(np.isnan(bytes_as_numbers), -1, bytes_as_numbers).astype(np.int64)
    flat = np.concatenate([array.ravel() for array in inputs])
    if arranged(flat, places).tobytes() != program.inputs(inputs):
        raise OfaTvmError(f"{program.kernel.spec.key}: its arguments are not its inputs in another order")
    return places


def program(
    kernel: dict[str, Any], candidate: dict[str, Any], target: dict[str, Any], compiler: str, identity: str, folder: str
) -> Answer:
    """A kernel for a CPU: a library that runs and times it in a process of its own."""
    spec, cache, to = KernelSpec(**kernel), ObjectCache(target), Path(folder)
    emitted = cache.kernel(spec, candidate)
    kernel_program = KernelProgram(emitted, cache.features.cores)
    inputs = described(input_shapes(spec))
    arrays = inputs_of({"inputs": inputs})
    places = places_of(kernel_program, arrays)
    with TemporaryDirectory() as name, stored_object(cache, emitted) as (code, _):
        library = Path(name) / "kernel.so"
        kernel_program.build(code, arrays, compiler, library, standalone=False)
        store(library, to / f"{identity}.so.z")
    (to / f"{identity}.places").write_bytes(encode_places(places))
    outputs, at = [], 0
    for shape in spec.output_shapes:
        outputs.append([at, list(shape)])
        at += aligned(FLOAT32_BYTES * int(np.prod(shape)))
    entry = {
        "form": "program",
        "places": f"{identity}.places",
        "outputs": outputs,
        "output_bytes": kernel_program.output_bytes,
        "expected": sample(compute(spec, arrays)),
    }
    return {"status": "ok", "entry": {**entry, "inputs": inputs}}


def function(
    kernel: dict[str, Any], candidate: dict[str, Any], target: dict[str, Any], compiler: str, identity: str, folder: str
) -> Answer:
    """A kernel for a GPU: a library with a function of tensors."""
    spec, to = KernelSpec(**kernel), Path(folder)
    inputs = described(layer_input_shapes(spec))
    with TemporaryDirectory() as name:
        library = Path(name) / "kernel.so"
        build_kernel(spec, candidate, Target(target), compiler, library)
        store(library, to / f"{identity}.so.z")
    described_inputs = {"inputs": inputs, "dtype": spec.dtype}
    arrays = [array.astype(np.float32) for array in inputs_of(described_inputs)]
    entry = {
        "form": "function",
        "outputs": [[0, list(spec.output_shape)]],
        "expected": sample([layer_compute(spec, arrays)]),
    }
    return {"status": "ok", "entry": {**entry, **described_inputs}}


def subnet(
    space: str,
    classes: int,
    subnet: str,
    winners: str | None,
    target: dict[str, Any],
    batch: int,
    dtype: DType,
    compiler: str,
    identity: str,
    folder: str,
) -> Answer:
    """A whole subnet with a log's winners, or its default schedules, and weights that compress well."""
    network = get_space(space).with_classes(classes).network(SubnetConfig.parse(subnet))
    weights = random_weights(network, period=PACKED_PERIOD)
    tuned = log_winners(Path(winners)) if winners is not None else {}
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    inputs = [{"shape": list(shape), "seed": 1, "scale": 1.0}]
    is_gpu = target["kind"] == "cuda"
    with TemporaryDirectory() as name:
        library = Path(name) / "subnet.so"
        if is_gpu:
            build_network(network, weights, tuned, Target(target), compiler, library, batch, dtype)
        else:
            assemble(network, weights, tuned, ObjectCache(target), library, batch, compiler)
        store(library, Path(folder) / f"{identity}.so.z")
    logits = network_logits(network, weights, inputs_of({"inputs": inputs})[0])
    entry = {
        "form": "virtual_machine" if is_gpu else "subnet",
        "outputs": [[0, list(logits.shape)]],
        "expected": sample([logits]),
    }
    return {"status": "ok", "entry": {**entry, "inputs": inputs}}


def store(library: Path, to: Path) -> None:
    """Compress a library into a pack."""
    to.write_bytes(zlib.compress(library.read_bytes(), 9))


def jobs() -> dict[str, Callable[..., Answer]]:
    """The jobs of one process."""
    return {"program": program, "function": function, "subnet": subnet}
