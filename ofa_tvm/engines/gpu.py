"""Engines on an NVIDIA GPU: the library of a bundle, and torch. Images lie on the GPU; a call ends when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model, Precision
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.version import VERSION

if TYPE_CHECKING:
    from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel
    from ofa_tvm.supernet.folded import GpuSubnet


class _Tensor(Protocol):
    def numpy(self) -> Array: ...


class GpuLibrary(Engine):
    """This package: the network of a GPU's bundle, as one CUDA graph.

    Args:
        target: the GPU, as the user named it.
        dtype: of maps and weights, float32 or float16.
        logs: folder of tuning logs; None for the default.
        tuned: use the winners of tuning; otherwise every kernel runs its default schedule.
    """

    package = "apache-tvm"
    settings = "the bundle's network called from Python, NHWC, without copies in and out"

    def __init__(self, target: str, dtype: DType, logs: Path | None = None, tuned: bool = True) -> None:
        self._target, self._dtype, self._logs, self._tuned = target, dtype, logs, tuned
        self.precision: Precision = dtype  # type: ignore[misc]

    @property
    def version(self) -> str | None:
        """Version of this package, and of the TVM that compiles."""
        return f"{VERSION} ({self.package} {super().version})"

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Compile."""
        from ofa_tvm.compiler.codegen import codegen_of
        from ofa_tvm.hardware.target_files import load_target
        from ofa_tvm.tuner.log import opened_log

        spec = load_target(self._target, threads, batch=1, dtype=self._dtype)
        winners = opened_log(spec, self._logs).winners if self._tuned else {}
        file = folder / "network.so"
        codegen_of(spec).build(network, weights, winners, file)
        return file

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load onto the GPU."""
        from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel

        return _GpuNetwork(VirtualMachineModel(file, "cuda"))


class _GpuNetwork(Model):
    def __init__(self, model: VirtualMachineModel) -> None:
        self._model = model

    def bind(self, images: Array) -> Call:
        tensor, run, wait = self._model.bind(images), self._model.run, self._model.wait

        def call() -> object:
            logits = run(tensor)
            wait()
            return logits

        return call

    def logits(self, output: _Tensor) -> Array:
        return np.asarray(output.numpy())


class GpuTorch(Engine):
    """torch in eager mode on the GPU.

    Args:
        dtype: of maps and weights.
    """

    package = "torch"
    settings = "eager on the GPU, inference mode, channels_last, batch norm folded, without copies in and out"

    def __init__(self, dtype: DType) -> None:
        self.precision: Precision = dtype  # type: ignore[misc]

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write the weights."""
        from safetensors.numpy import save_file

        save_file(dict(weights), folder / "model.safetensors")
        return folder / "model.safetensors"

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Read the weights onto the GPU."""
        from safetensors.numpy import load

        from ofa_tvm.supernet.folded import GpuSubnet

        return _TorchOnGpu(GpuSubnet(network, load(file.read_bytes()), threads, self.precision))


class _TorchOnGpu(Model):
    def __init__(self, subnet: GpuSubnet) -> None:
        self._subnet = subnet

    def bind(self, images: Array) -> Call:
        inputs, run, wait = self._subnet.inputs(images), self._subnet, self._subnet.wait

        def call() -> object:
            logits = run(inputs)
            wait()
            return logits

        return call

    def logits(self, output: object) -> Array:
        return self._subnet.on_cpu(output)
