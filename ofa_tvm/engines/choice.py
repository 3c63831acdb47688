"""Which engines a benchmark times, by the names that a user gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ofa_tvm.engines import ENGINES
from ofa_tvm.engines.base import Engine
from ofa_tvm.engines.gpu import GpuLibrary, GpuTorch
from ofa_tvm.engines.own_library import OfaTvm
from ofa_tvm.engines.tvm_loops import TvmLoops
from ofa_tvm.hardware.machine import local_gpu
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.console import log
from ofa_tvm.support.dtype import AUTO
from ofa_tvm.support.errors import UserError

OURS = "ofa_tvm"
OWN = (OURS, "default", *AUTO, "loops")
"""Made by this package: equal versions do not say that they are the same."""
Makers = dict[str, Callable[[], Engine]]


def chosen_engines(
    against: str | None, source: str, target: TargetSpec, logs: Path | None
) -> tuple[dict[str, Engine], list[str]]:
    """Engines to time, ours first, and the names of those that are not installed.

    Args:
        against: their names, with commas between them; None for the usual ones of the target.
        source: the target as the user named it.
        target: the target.
        logs: folder of tuning logs.

    Raises:
        UserError: an engine is unknown, or the target is a GPU that this machine lacks.
    """
    ours: Engine
    if target.is_gpu:
        _require_gpu(target)
        usual, ours, choices = "torch", GpuLibrary(source, target.dtype, logs), _for_gpu(source, target, logs)
    else:
        usual, choices = "ort,openvino,torch", _for_cpu(source, target, logs)
        ours = OfaTvm(source, logs, dtype=target.dtype)
    engines: dict[str, Engine] = {OURS: ours}
    missing = []
    for name in filter(None, (name.strip() for name in (usual if against is None else against).split(","))):
        if name not in choices:
            raise UserError(f"unknown engine '{name}'", f"choose from {', '.join(choices)}")
        engine = choices[name]()
        if engine.version is None:
            log(f"{name} is left out: {engine.package} is not installed (pip install {engine.package})")
            missing.append(name)
        else:
            engines[name] = engine
    return engines, missing


def _for_cpu(source: str, target: TargetSpec, logs: Path | None) -> Makers:
    choices: Makers = {name: make for name, make in ENGINES.items() if name != OURS}
    choices["default"] = lambda: OfaTvm(source, logs, tuned=False, dtype=target.dtype)
    choices |= {dtype: partial(OfaTvm, source, logs, dtype=dtype) for dtype in AUTO}
    choices["loops"] = lambda: TvmLoops(source)
    return choices


def _for_gpu(source: str, target: TargetSpec, logs: Path | None) -> Makers:
    return {
        "torch": lambda: GpuTorch(target.dtype),
        "default": lambda: GpuLibrary(source, target.dtype, logs, tuned=False),
        "float32": lambda: GpuLibrary(source, "float32", logs),
    }


def _require_gpu(target: TargetSpec) -> None:
    if target.has_templates:
        raise UserError(
            f"bench does not time kernels from templates, as target {target.name} has them",
            "deploy, then time the bundle: BUNDLE/run --benchmark; or compare a pack: benchmarks/gpu_peers.py PACK",
        )
    gpu = local_gpu()
    if gpu is None:
        raise UserError(
            f"target {target.name} is a GPU, and nvidia-smi finds none on this machine",
            "run bench where the GPU is, or compare there with benchmarks/gpu_peers.py and a pack of "
            f"'python -m ofa_tvm.tune {target.options} --export-pack FOLDER --trials 0 --samples 10'",
        )
    if gpu.arch != target.chip:
        raise UserError(
            f"target {target.name} is for {target.chip}, this machine's {gpu.name} is {gpu.arch}", "--target cuda"
        )
