"""TVM without schedules, as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


class TvmLoops(Engine):
    """TVM alone: the unscheduled loops of each layer, called by the Relax VM."""

    package = "apache-tvm"
    settings = "unscheduled loops, Relax VM called from Python, NHWC"

    def __init__(self, target: str = "x86") -> None:
        self._target = target

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Compile."""
        from ofa_tvm.compiler.scheduled.virtual_machine import compile_loops
        from ofa_tvm.compiler.tvm_api.names import Target
        from ofa_tvm.hardware.target_files import load_target

        spec = load_target(self._target, threads, batch=1)
        file = folder / f"model{spec.library_suffix}"
        compile_loops(network, weights, Target(spec.attributes), file)
        return file

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load."""
        from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel
        from ofa_tvm.compiler.threads import use_threads

        use_threads(threads)
        return _VirtualMachine(VirtualMachineModel(file))


class _VirtualMachine(Model):
    def __init__(self, model: Any) -> None:
        self._model = model

    def bind(self, images: Array) -> Call:
        tensor, run = self._model.bind(images), self._model.run
        return lambda: run(tensor)

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())
