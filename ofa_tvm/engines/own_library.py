"""This package, as an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model, Precision, calibration_images
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.version import VERSION

CpuDType = Literal["float32", "int8"]


class OfaTvm(Engine):
    """This package: a library as ``deploy`` writes it.

    Args:
        target: name of the target.
        logs: folder of tuning logs; None for the default.
        tuned: use the winners of tuning; otherwise every kernel runs its default schedule.
        dtype: of maps and weights.
    """

    package = "apache-tvm"
    settings = "the deployed library called from Python, NHWC"

    def __init__(
        self, target: str = "x86", logs: Path | None = None, tuned: bool = True, dtype: CpuDType = "float32"
    ) -> None:
        self._target, self._logs, self._tuned, self._dtype = target, logs, tuned, dtype
        self.precision: Precision = dtype  # type: ignore[misc]

    @property
    def version(self) -> str | None:
        """Version of this package, and of the TVM that compiles."""
        return f"{VERSION} ({self.package} {super().version})"

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Assemble and load."""
        import tempfile

        from ofa_tvm.compiler.cpu.assembler import assemble
        from ofa_tvm.compiler.cpu.object_cache import ObjectCache
        from ofa_tvm.compiler.loaded_model import LoadedModel
        from ofa_tvm.compiler.threads import use_threads
        from ofa_tvm.graph.quantisation import is_quantised
        from ofa_tvm.hardware.target_files import load_target
        from ofa_tvm.supernet.quantise import quantised_weights
        from ofa_tvm.tuner.log import TuningLog

        use_threads(threads)
        spec = load_target(self._target, threads, batch=1, dtype=self._dtype)
        winners = TuningLog(spec, self._logs).winners if self._tuned else {}
        if self._dtype == "int8" and not is_quantised(weights):
            weights = quantised_weights(network, weights, calibration_images(network))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{spec.library_suffix}"
            assemble(network, weights, winners, ObjectCache(spec.attributes), path, 1, spec.toolchain.linker)
            return _Assembled(LoadedModel(path))


def cpu_dtype(dtype: DType) -> CpuDType:
    """A target's type as one that CPUs have."""
    return "int8" if dtype == "int8" else "float32"


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
