"""This package, as an engine."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.engines.base import Array, Call, Engine, Model, Precision, calibration_images
from ofa_tvm.graph.kernel import KernelSpec, Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError
from ofa_tvm.support.version import VERSION


@dataclass(frozen=True)
class KernelTime:
    """Microseconds of one call of a kernel within a network, its template, and the layers that it computes."""

    kernel: KernelSpec
    template: str
    layers: tuple[str, ...]
    microseconds: float


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
        self, target: str = "x86", logs: Path | None = None, tuned: bool = True, dtype: DType = "float32"
    ) -> None:
        self._target, self._logs, self._tuned, self._dtype = target, logs, tuned, dtype
        self.precision: Precision = dtype  # type: ignore[misc]

    @property
    def version(self) -> str | None:
        """Version of this package, and of the TVM that compiles."""
        return f"{VERSION} ({self.package} {super().version})"

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Assemble."""
        from ofa_tvm.compiler.cpu.assembler import assemble
        from ofa_tvm.compiler.cpu.object_cache import ObjectCache

        spec, winners = self._tuned_target(threads)
        file = folder / f"model{spec.library_suffix}"
        weights = self._in_precision(network, weights)
        assemble(network, weights, winners, ObjectCache(spec.attributes), file, 1, spec.toolchain.linker)
        return file

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load through TVM's runtime."""
        from ofa_tvm.compiler.loaded_model import LoadedModel
        from ofa_tvm.compiler.threads import use_threads

        use_threads(threads)
        return _Assembled(LoadedModel(file))

    def load_alone(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load with ``dlopen``, as a program in C does."""
        return _CLibrary(file)

    def kernel_times(self, network: NetworkSpec, weights: Weights, threads: int, runs: int) -> list[KernelTime]:
        """Times of its kernels in the order in which they run: medians, all threads together."""
        from ofa_tvm.compiler.cpu.assembler import assemble_profiled
        from ofa_tvm.compiler.cpu.object_cache import ObjectCache

        spec, winners = self._tuned_target(threads)
        images, weights = calibration_images(network)[:1], self._in_precision(network, weights)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"profiled{spec.library_suffix}"
            cache, linker = ObjectCache(spec.attributes), spec.toolchain.linker
            plan = assemble_profiled(network, weights, winners, cache, file, linker)
            nanoseconds = _CLibrary(file).profile(images, runs)[runs // 10 :]
        return [
            KernelTime(step.kernel, kernel.schedule.get("template", ""), step.layers, float(spent) / 1e3)
            for step, kernel, spent in zip(plan.steps, plan.kernels, np.median(nanoseconds, axis=0), strict=True)
        ]

    def _tuned_target(self, threads: int) -> tuple[TargetSpec, Winners]:
        from ofa_tvm.hardware.target_files import load_target
        from ofa_tvm.tuner.log import opened_log

        spec = load_target(self._target, threads, batch=1, dtype=self._dtype)
        return spec, opened_log(spec, self._logs).winners if self._tuned else {}

    def _in_precision(self, network: NetworkSpec, weights: Weights) -> Weights:
        from ofa_tvm.graph.quantisation import is_quantised
        from ofa_tvm.graph.weights import marked
        from ofa_tvm.supernet.quantise import quantised_weights

        if self._dtype != "int8":
            return marked(weights, self._dtype)
        if is_quantised(weights):
            return weights
        return quantised_weights(network, weights, calibration_images(network))


class _CLibrary(Model):
    """A subnet's library by its C functions alone, one image a call; it stays loaded for the life of the process."""

    def __init__(self, file: Path) -> None:
        self._library = ctypes.CDLL(str(file))

    def bind(self, images: Array) -> Call:
        images, logits = np.ascontiguousarray(images, np.float32), self._room()
        run = self._library.ofa_tvm_run
        arguments = [array.ctypes.data_as(ctypes.c_void_p) for array in (images, logits)]

        def call() -> Any:
            if error := run(*arguments):
                raise OfaTvmError(f"the library failed with error {error}")
            return images, logits  # the images live as long as the call that reads them

        return call

    def logits(self, output: Any) -> Array:
        return np.asarray(output[1])

    def profile(self, images: Array, runs: int) -> NDArray[np.int64]:
        """Nanoseconds of each kernel of a profiled library: (runs, kernels)."""
        images, logits = np.ascontiguousarray(images, np.float32), self._room()
        times = np.zeros((runs, self._library.ofa_tvm_steps()), np.int64)
        places = [array.ctypes.data_as(ctypes.c_void_p) for array in (images, logits, times)]
        if error := self._library.ofa_tvm_profile(*places[:2], ctypes.c_int64(runs), places[2]):
            raise OfaTvmError(f"the library failed with error {error}")
        return times

    def _room(self) -> Array:
        return np.zeros((1, self._library.ofa_tvm_classes()), np.float32)


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
