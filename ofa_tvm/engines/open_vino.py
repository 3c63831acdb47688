"""OpenVINO, as an engine: pinned to float32, as installed, or in int8 by NNCF."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any, ClassVar

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model, Precision, calibration_images, channels_first
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


class OpenVino(Engine):
    """OpenVINO's CPU plugin."""

    package = "openvino"
    settings = "CPU plugin, latency hint, float32, NCHW"
    precision_hint: ClassVar[dict[str, str]] = {"INFERENCE_PRECISION_HINT": "f32"}
    """The default is bfloat16 on processors that have it."""

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Compile."""
        import openvino

        core = openvino.Core()
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **self.precision_hint}
        compiled = core.compile_model(self._model(core, network, weights), "CPU", config)
        return _InferRequest(compiled.create_infer_request(), openvino.Tensor)

    def _model(self, core: Any, network: NetworkSpec, weights: Weights) -> Any:
        from ofa_tvm.graph.onnx_export import to_onnx

        return core.read_model(to_onnx(network, weights).SerializeToString())


class OpenVinoAsInstalled(OpenVino):
    """The precision that OpenVINO chooses: bfloat16 where the CPU multiplies it faster."""

    settings = "CPU plugin, latency hint, its own precision, NCHW"
    precision: ClassVar[Precision] = "bfloat16"
    precision_hint: ClassVar[dict[str, str]] = {}


class OpenVinoInt8(OpenVino):
    """Int8 by NNCF's post-training quantisation."""

    package = "nncf"
    settings = "NNCF post-training quantisation (mixed preset), CPU plugin, latency hint, NCHW"
    precision: ClassVar[Precision] = "int8"

    def _model(self, core: Any, network: NetworkSpec, weights: Weights) -> Any:
        import nncf

        images = [channels_first(image[None]) for image in calibration_images(network)]
        model = super()._model(core, network, weights)
        preset = nncf.QuantizationPreset.MIXED
        with redirect_stdout(sys.stderr):  # it draws its progress on stdout
            return nncf.quantize(model, nncf.Dataset(images), preset=preset, subset_size=len(images))


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
