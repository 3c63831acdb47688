"""This package, as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


class OfaTvm(Engine):
    """This package: a library as ``deploy`` writes it.

    Args:
        target: name of the target.
        logs: folder of tuning logs; None for the default.
        tuned: use the winners of tuning; otherwise every kernel runs its default schedule.
    """

    package = "apache-tvm"
    settings = "the deployed library called from Python, NHWC"

    def __init__(self, target: str = "x86", logs: Path | None = None, tuned: bool = True) -> None:
        self._target, self._logs, self._tuned = target, logs, tuned

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Assemble and load."""
        import tempfile

        from ofa_tvm.compiler.cpu.assembler import assemble
        from ofa_tvm.compiler.cpu.object_cache import ObjectCache
        from ofa_tvm.compiler.loaded_model import LoadedModel
        from ofa_tvm.compiler.threads import use_threads
        from ofa_tvm.hardware.target_files import load_target
        from ofa_tvm.tuner.log import TuningLog

        use_threads(threads)
        spec = load_target(self._target, threads, batch=1)
        winners = TuningLog(spec, self._logs).winners if self._tuned else {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{spec.library_suffix}"
            assemble(network, weights, winners, ObjectCache(spec.attributes), path, 1, spec.toolchain.linker)
            return _Assembled(LoadedModel(path))


class _Assembled(Model):
    def __init__(self, model: Any) -> None:
        self._model = model

    def bind(self, images: Array) -> Call:
        tensor, logits = self._model.bind(images)
        run = self._model.run

        def call() -> Any:
            run(tensor, logits)
            return logits

        return call

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())
