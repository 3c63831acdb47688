"""Engines that run the same subnet, each behind the same two calls. A new engine is one class and one line here.

All engines compute in float32 from the same folded weights. Imports happen in ``prepare``: an engine that is not
installed is only missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights

Array = NDArray[np.float32]
Call = Callable[[], Any]


class Model(ABC):
    """A network that an engine has made ready."""

    @abstractmethod
    def bind(self, images: Array) -> Call:
        """A call that runs once on these images.

        Args:
            images: normalised (1, resolution, resolution, channels); brought into the engine's layout now, so that
                timing the call times the engine alone.
        """

    @abstractmethod
    def logits(self, output: Any) -> Array:
        """Logits (1, classes) of what a bound call returned."""

    def __call__(self, images: Array) -> Array:
        """Logits (1, classes) of images, see ``bind``."""
        return self.logits(self.bind(images)())


class Engine(ABC):
    """Something that runs networks.

    ``package`` is the distribution that it needs, ``settings`` say how it is run.
    """

    package: ClassVar[str]
    settings: ClassVar[str]

    @property
    def version(self) -> str | None:
        """Version of the package; None where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    @abstractmethod
    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Make a network ready for images of batch 1."""


def channels_first(images: Array) -> Array:
    """(n, height, width, channels) images as (n, channels, height, width)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


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
        from ofa_tvm.hardware.target import load_target
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
        given, logits = self._model.bind(images)
        run = self._model.run

        def call() -> Any:
            run(given, logits)
            return logits

        return call

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())


class TvmLoops(Engine):
    """TVM alone: the unscheduled loops of each layer, called by the Relax VM."""

    package = "apache-tvm"
    settings = "unscheduled loops, Relax VM called from Python, NHWC"

    def __init__(self, target: str = "x86") -> None:
        self._target = target

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Compile and load."""
        import tempfile

        from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel, compile_loops
        from ofa_tvm.compiler.threads import use_threads
        from ofa_tvm.compiler.tvm_api.names import Target
        from ofa_tvm.hardware.target import load_target

        use_threads(threads)
        spec = load_target(self._target, threads, batch=1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"model{spec.library_suffix}"
            compile_loops(network, weights, Target(spec.attributes), path)
            return _VirtualMachine(VirtualMachineModel(path))


class _VirtualMachine(Model):
    def __init__(self, model: Any) -> None:
        self._model = model

    def bind(self, images: Array) -> Call:
        tensor, run = self._model.bind(images), self._model.run
        return lambda: run(tensor)

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider."""

    package = "onnxruntime"
    settings = "CPU provider, all graph optimisations, NCHW"

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Make a session."""
        import onnxruntime

        from ofa_tvm.graph.onnx_export import to_onnx

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Its threads must not spin while another engine is timed.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        model = to_onnx(network, weights).SerializeToString()
        return _OnnxSession(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]))


class _OnnxSession(Model):
    def __init__(self, session: Any) -> None:
        self._session = session

    def bind(self, images: Array) -> Call:
        feed, run = {"image": channels_first(images)}, self._session.run
        return lambda: run(None, feed)

    def logits(self, output: Any) -> Array:
        return np.asarray(output[0])


class OpenVino(Engine):
    """OpenVINO's CPU plugin."""

    package = "openvino"
    settings = "CPU plugin, latency hint, float32, NCHW"

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Compile."""
        import openvino

        from ofa_tvm.graph.onnx_export import to_onnx

        core = openvino.Core()
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # The default is bfloat16 on processors that have it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        model = core.read_model(to_onnx(network, weights).SerializeToString())
        return _InferRequest(core.compile_model(model, "CPU", config).create_infer_request(), openvino.Tensor)


class _InferRequest(Model):
    def __init__(self, request: Any, tensor: Any) -> None:
        self._request, self._tensor = request, tensor

    def bind(self, images: Array) -> Call:
        request = self._request
        request.set_input_tensor(self._tensor(channels_first(images)))

        def call() -> Any:
            request.infer()
            return request

        return call

    def logits(self, output: Any) -> Array:
        return np.array(output.get_output_tensor().data)


class Torch(Engine):
    """torch in eager mode: what a subnet costs without a compiler."""

    package = "torch"
    settings = "eager, inference mode, channels_last, batch norm folded"

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Copy the weights."""
        from ofa_tvm.supernet.folded import FoldedSubnet

        return _EagerTorch(FoldedSubnet(network, weights, threads))


class _EagerTorch(Model):
    def __init__(self, subnet: Any) -> None:
        self._subnet = subnet

    def bind(self, images: Array) -> Call:
        inputs, run = self._subnet.inputs(images), self._subnet
        return lambda: run(inputs)

    def logits(self, output: Any) -> Array:
        return np.asarray(output.numpy())


ENGINES: dict[str, type[Engine]] = {
    "ofa_tvm": OfaTvm,
    "ort": OnnxRuntime,
    "openvino": OpenVino,
    "torch": Torch,
    "loops": TvmLoops,
}


def reference_engine() -> tuple[str, Engine]:
    """Name and engine that others' outputs are checked against: ONNX Runtime, or torch where it is missing."""
    name = "ort" if OnnxRuntime().version else "torch"
    return name, ENGINES[name]()
