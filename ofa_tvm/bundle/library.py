"""Compile one subnet stage by stage, with the seconds that each takes, and check what can be run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.codegen import Library, codegen_of
from ofa_tvm.compiler.cpu.assembler import compile_kernels, compile_program, link, make_plan
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.cuda.device_code import machine_code
from ofa_tvm.engines import reference_engine
from ofa_tvm.graph.kernel import Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.parity import MAX_BFLOAT16_ERROR, MAX_FLOAT16_ERROR, MAX_RELATIVE_ERROR, check_parity, relative_error
from ofa_tvm.graph.quantisation import cpu_dtype_of
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.files import Record, write_atomic


@dataclass(frozen=True)
class CompiledSubnet:
    """What compiling a subnet produced, and the time it took.

    Args:
        subnet: its key.
        seconds: by stage: on a CPU ``plan`` calls and memory, ``kernels`` to machine code (those that no subnet had
            before; what calls them is compiled beside), ``link`` the library, ``load`` it until it has run once,
            ``check`` it against another engine, which computes while the library is linked; for a GPU ``compile``;
            and ``total``.
        tuned_kernels: distinct kernels with a winner in the log.
        default_kernels: distinct kernels without.
        library: the exported library.
        compiled_kernels: distinct kernels that had to be compiled.
        reference: the engine that it was compared with; None where it was not run.
        relative_error: largest difference to it over its largest output.
        architecture: GPU architecture that the code is for.
        device_code_bytes: size of the GPU's code.
        trials: tuning trials, always 0.
    """

    subnet: str
    seconds: dict[str, float]
    tuned_kernels: int
    default_kernels: int
    library: str | None
    compiled_kernels: int
    reference: str | None = None
    relative_error: float | None = None
    architecture: str | None = None
    device_code_bytes: int | None = None
    trials: int = 0

    def record(self) -> Record:
        """As a JSON object."""
        return asdict(self)


class _Stages:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def compile_subnet(
    key: str,
    network: NetworkSpec,
    weights: Weights,
    target: TargetSpec,
    winners: Winners,
    library: Path | None,
    load: Callable[[Path], Library],
) -> CompiledSubnet:
    """Compile a subnet and, if its output is right, keep its library; one for a GPU, maybe elsewhere, is not run.

    Args:
        key: the subnet's key.
        network: its layers.
        weights: folded weights.
        target: what the code is for.
        winners: tuned schedules by kernel.
        library: where to write it; None to leave that out.
        load: loads a library where it can run.

    Raises:
        UserError: a compiler is not installed.
        OfaTvmError: the library's output differs from another engine's, or it has no code; nothing is written.
    """
    kernels = {kernel.key for _, kernel in codegen_of(target).steps(network)}
    tuned = len(kernels & winners.keys())
    with tempfile.TemporaryDirectory() as folder:
        stage, new = _Stages(), Path(folder) / f"{key}{target.library_suffix}"
        build = _Build(network, weights, target, winners, new, len(kernels))
        facts = build.for_gpu(stage) if target.is_gpu else build.for_cpu(stage, load)
        if library is not None:
            with stage("export"):
                write_atomic(library, new.read_bytes())
    return CompiledSubnet(
        subnet=key,
        seconds={**stage.seconds, "total": sum(stage.seconds.values())},
        tuned_kernels=tuned,
        default_kernels=len(kernels) - tuned,
        library=None if library is None else str(library),
        **asdict(facts),
    )


@dataclass(frozen=True)
class _Facts:
    compiled_kernels: int
    reference: str | None = None
    relative_error: float | None = None
    architecture: str | None = None
    device_code_bytes: int | None = None


MAX_ERROR: dict[DType, float] = {"bfloat16": MAX_BFLOAT16_ERROR, "float16": MAX_FLOAT16_ERROR}
"""Of logits from their reference, where that does not round as the kernels do."""


@dataclass(frozen=True)
class _Build:
    network: NetworkSpec
    weights: Weights
    target: TargetSpec
    winners: Winners
    library: Path
    distinct_kernels: int

    def for_gpu(self, stage: _Stages) -> _Facts:
        """Compile; nothing is run."""
        codegen = codegen_of(self.target)
        with stage("compile"):
            codegen.build(self.network, self.weights, self.winners, self.library)
            size = sum(map(len, machine_code(self.library)))
        if not size:
            raise OfaTvmError("the library holds no device code", "see 'python -m ofa_tvm.doctor --target'")
        return _Facts(self.distinct_kernels, architecture=self.target.chip, device_code_bytes=size)

    def for_cpu(self, stage: _Stages, load: Callable[[Path], Library]) -> _Facts:
        """Compile, run and compare."""
        network, target, linker = self.network, self.target, self.target.toolchain.linker
        cache = ObjectCache(target.attributes)
        shape = (target.batch, network.resolution, network.resolution, network.in_channels)
        images = np.random.default_rng(0).standard_normal(shape, np.float32)
        with ThreadPoolExecutor(1) as thread:
            with stage("plan"):
                plan = make_plan(network, self.weights, self.winners, cache)
            with stage("kernels"):
                compiling = (plan, self.weights, target.threads, target.batch, linker, self.library.parent)
                program = thread.submit(compile_program, *compiling)
                objects = compile_kernels(plan, cache)
            expected = thread.submit(_reference_logits, network, self.weights, images, target.threads)
            with stage("link"):
                link(program.result(), objects, target.threads, linker, self.library)
            with stage("load"):
                logits = load(self.library)(images)
            with stage("check"):
                reference, reference_logits = expected.result()
                error = relative_error(logits, reference_logits)
            check_parity("the compiled subnet", error, reference, MAX_ERROR.get(target.dtype, MAX_RELATIVE_ERROR))
        return _Facts(len(cache.compiled), reference, error)


def _reference_logits(
    network: NetworkSpec, weights: Weights, images: NDArray[np.float32], threads: int
) -> tuple[str, NDArray[np.float32]]:
    """The name of another engine, and its logits of the images one by one."""
    if cpu_dtype_of(weights) != "float32":
        return "numpy", network_logits(network, weights, images)
    name, engine = reference_engine()
    model = engine.prepare(network, weights, threads)
    return name, np.concatenate([model(image[None]) for image in images])
