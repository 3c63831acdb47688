"""Compile one subnet stage by stage, with the seconds that each takes, and check what comes out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.assembler import Winners, compile_kernels, compile_program, link, make_plan
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.engines import reference_engine
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.parity import check_parity, relative_error
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.files import write_atomic


@dataclass(frozen=True)
class CompiledSubnet:
    """What compiling a subnet took and gave.

    Args:
        subnet: its key.
        seconds: by stage: ``plan`` calls and memory, ``kernels`` to machine code (those that no subnet had before;
            what calls them is compiled beside), ``link`` the library, ``load`` it until it has run once, ``check`` it
            against another engine, which computes while the library is linked; and ``total``.
        compiled_kernels: distinct kernels that had to be compiled.
        tuned_kernels: distinct kernels with a winner in the log.
        default_kernels: distinct kernels without.
        trials: tuning trials, always 0.
        reference: the engine that it was compared with.
        relative_error: largest difference to it over its largest output.
        library: the exported library.
    """

    subnet: str
    seconds: dict[str, float]
    compiled_kernels: int
    tuned_kernels: int
    default_kernels: int
    trials: int
    reference: str
    relative_error: float
    library: str | None

    def record(self) -> dict[str, Any]:
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
    load: Callable[[Path], Any] = LoadedModel,
) -> CompiledSubnet:
    """Compile, run, compare and, if it is right, keep a subnet's library.

    Args:
        key: the subnet's key.
        network: its layers.
        weights: folded weights.
        target: what the code is for.
        winners: tuned schedules by kernel.
        library: where to write it; None to leave that out.
        load: loads a library where it can run.

    Raises:
        OfaTvmError: the library computes something else than the reference; nothing is written.
    """
    stage = _Stages()
    cache = ObjectCache(target.attributes)
    shape = (target.batch, network.resolution, network.resolution, network.in_channels)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as beside:
        made = Path(folder) / f"{key}{target.library_suffix}"
        with stage("plan"):
            plan = make_plan(network, winners, cache)
            new = {path for kernel in plan.kernels if not (path := cache.path(kernel.spec, kernel.schedule)).exists()}
        linker = target.toolchain.linker
        with stage("kernels"):
            program = beside.submit(compile_program, plan, weights, target.threads, target.batch, linker, Path(folder))
            objects = compile_kernels(plan, cache)
        wanted = beside.submit(_reference_logits, network, weights, images, target.threads)
        with stage("link"):
            link(program.result(), objects, target.threads, linker, made)
        with stage("load"):
            logits = load(made)(images)
        with stage("check"):
            reference, expected = wanted.result()
            error = relative_error(logits, expected)
        check_parity(f"compiled subnet {key}", error, reference)
        if library is not None:
            with stage("export"):
                write_atomic(library, made.read_bytes())
    kernels = {kernel.spec.key for kernel in plan.kernels}
    tuned = len(kernels & winners.keys())
    return CompiledSubnet(
        subnet=key,
        seconds={**stage.seconds, "total": sum(stage.seconds.values())},
        compiled_kernels=len(new),
        tuned_kernels=tuned,
        default_kernels=len(kernels) - tuned,
        trials=0,
        reference=reference,
        relative_error=error,
        library=None if library is None else str(library),
    )


def _reference_logits(
    network: NetworkSpec, weights: Weights, images: NDArray[np.float32], threads: int
) -> tuple[str, NDArray[np.float32]]:
    """The name of another engine, and its logits of the images one by one."""
    name, engine = reference_engine()
    model = engine.prepare(network, weights, threads)
    return name, np.concatenate([model(image[None]) for image in images])
