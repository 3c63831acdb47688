"""OpenVINO, as an engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model, channels_first
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


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
