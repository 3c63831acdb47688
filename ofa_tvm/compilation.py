"""Compile one subnet stage by stage, with the seconds that each takes, and check what comes out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.compiler.pipeline import apply_schedules, build, export
from ofa_tvm.compiler.relax_builder import build_relax
from ofa_tvm.compiler.runtime import load
from ofa_tvm.compiler.tvm_import import Target
from ofa_tvm.engines import reference_engine
from ofa_tvm.kernels import network_kernels
from ofa_tvm.network import NetworkSpec
from ofa_tvm.parity import check_parity, relative_error
from ofa_tvm.targets import TargetSpec
from ofa_tvm.tuner.database import load_database
from ofa_tvm.weights import Weights


@dataclass(frozen=True)
class CompiledSubnet:
    """What compiling a subnet took and gave.

    Args:
        subnet: its key.
        seconds: by stage: ``emit`` the module, ``schedule`` its kernels from tuning records, ``build`` machine code,
            ``load`` it until it has run once, ``check`` it against another engine, ``export`` it.
        total_s: all stages together.
        tuned_kernels: distinct kernels with a tuning record.
        default_kernels: distinct kernels without.
        trials: tuning trials, always 0.
        reference: the engine that it was compared with.
        relative_error: largest difference to it over its largest output.
        library: the exported library.
    """

    subnet: str
    seconds: dict[str, float]
    total_s: float
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
    records: dict[str, Any],
    library: Path | None,
) -> CompiledSubnet:
    """Compile, run, compare and, if it is right, export a subnet.

    Args:
        key: the subnet's key.
        network: its layers.
        weights: folded weights.
        target: what the code is for; it runs on this machine.
        records: the target's tuning records by kernel key.
        library: where to export it; None to leave that out.

    Raises:
        OfaTvmError: the executable computes something else than the reference; nothing is exported.
    """
    stage = _Stages()
    compiler_target = Target(target.attributes)
    kernels = {kernel.key: kernel for _, kernel in network_kernels(network, target.batch)}
    shape = (target.batch, network.resolution, network.resolution, network.in_channels)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    with stage("emit"):
        module = build_relax(network, weights, target.batch)
    with stage("schedule"):
        database = load_database(kernels.values(), records)
        module = apply_schedules(module, compiler_target, database)
    with stage("build"):
        executable = build(module, compiler_target)
    with stage("load"):
        found = load(executable)(images)
    with stage("check"):
        reference, engine = reference_engine()
        model = engine.prepare(network, weights, target.threads)
        expected = np.concatenate([model(images[i : i + 1]) for i in range(target.batch)])
        error = relative_error(found, expected)
    check_parity(f"compiled subnet {key}", error, reference)
    if library is not None:
        with stage("export"):
            library.parent.mkdir(parents=True, exist_ok=True)
            export(executable, library)
    tuned = sum(kernel in records for kernel in kernels)
    return CompiledSubnet(
        subnet=key,
        seconds=stage.seconds,
        total_s=sum(stage.seconds.values()),
        tuned_kernels=tuned,
        default_kernels=len(kernels) - tuned,
        trials=0,
        reference=reference,
        relative_error=error,
        library=None if library is None else str(library),
    )
