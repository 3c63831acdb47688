"""OpenVINO, as an engine: pinned to float32, as installed, or in int8 by NNCF."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ofa_tvm.engines.base import (
    Array,
    Call,
    Engine,
    Model,
    NodeTime,
    Precision,
    calibration_images,
    channels_first,
    median_times,
)
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


class OpenVino(Engine):
    """OpenVINO's CPU plugin."""

    package = "openvino"
    settings = "CPU plugin, latency hint, float32, NCHW"
    precision_hint: ClassVar[dict[str, str]] = {"INFERENCE_PRECISION_HINT": "f32"}
    """The default is bfloat16 on processors that have it."""

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write the ONNX model."""
        from ofa_tvm.graph.onnx_export import to_onnx

        (folder / "model.onnx").write_bytes(to_onnx(network, weights).SerializeToString())
        return folder / "model.onnx"

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Compile."""
        return self._request(file, threads)

    def node_times(self, network: NetworkSpec, weights: Weights, threads: int, runs: int) -> list[NodeTime] | None:
        """From its performance counts."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            model = self._request(self.build(network, weights, threads, Path(folder)), threads, PERF_COUNT=True)
        call = model.bind(calibration_images(network)[:1])
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(runs):
            for node in call().profiling_info:
                if node.status == node.Status.EXECUTED:
                    spent = node.real_time.total_seconds() * 1e6
                    times.setdefault((node.node_name, f"{node.node_type} ({node.exec_type})"), []).append(spent)
        return median_times(times)

    def _request(self, file: Path, threads: int, **more: bool) -> _InferRequest:
        import openvino

        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **self.precision_hint, **more}
        compiled = openvino.Core().compile_model(file, "CPU", config)
        return _InferRequest(compiled.create_infer_request(), openvino.Tensor)


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

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Quantise, and write OpenVINO's own form."""
        import nncf
        import openvino

        images = [channels_first(image[None]) for image in calibration_images(network)]
        model = openvino.Core().read_model(super().build(network, weights, threads, folder))
        preset = nncf.QuantizationPreset.MIXED
        with redirect_stdout(sys.stderr):  # it draws its progress on stdout
            quantised = nncf.quantize(model, nncf.Dataset(images), preset=preset, subset_size=len(images))
        openvino.save_model(quantised, folder / "model.xml", compress_to_fp16=False)
        return folder / "model.xml"


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
