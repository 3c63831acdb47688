"""ONNX Runtime, as an engine: in float32, or statically quantised by its own tool."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

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


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider."""

    package = "onnxruntime"
    settings = "CPU provider, all graph optimisations, NCHW"

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write the ONNX model."""
        (folder / "model.onnx").write_bytes(self._model(network, weights))
        return folder / "model.onnx"

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Make a session."""
        return _OnnxSession(_session(file, threads))

    def node_times(self, network: NetworkSpec, weights: Weights, threads: int, runs: int) -> list[NodeTime] | None:
        """From its profiler."""
        with tempfile.TemporaryDirectory() as name:
            session = _session(self.build(network, weights, threads, Path(name)), threads, Path(name) / "profile")
            call = _OnnxSession(session).bind(calibration_images(network)[:1])
            for _ in range(runs):
                call()
            events = json.loads(Path(session.end_profiling()).read_text())
        times: dict[tuple[str, str], list[float]] = {}
        for event in sorted(events, key=lambda event: event["ts"]):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                node = (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"])
                times.setdefault(node, []).append(event["dur"])
        return median_times(times)

    def _model(self, network: NetworkSpec, weights: Weights) -> bytes:
        from ofa_tvm.graph.onnx_export import to_onnx

        model: bytes = to_onnx(network, weights).SerializeToString()
        return model


class OnnxRuntimeInt8(OnnxRuntime):
    """Static quantisation: u8 maps, s8 weights per channel, ranges from calibration images."""

    settings = "static quantisation, QDQ, per channel; CPU provider, all graph optimisations"
    precision: ClassVar[Precision] = "int8"
    form: ClassVar[Literal["QDQ", "QOperator"]] = "QDQ"

    def _model(self, network: NetworkSpec, weights: Weights) -> bytes:
        from onnxruntime import quantization

        class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self._images = iter(calibration_images(network))

            def get_next(self) -> dict[str, Array] | None:
                image = next(self._images, None)
                return None if image is None else {"image": channels_first(image[None])}

        logging.getLogger().setLevel(logging.ERROR)  # it advises a step that changes nothing here
        with tempfile.TemporaryDirectory() as folder:
            source, quantised = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(super()._model(network, weights))
            quantization.quantize_static(
                source,
                quantised,
                Images(),
                quant_format=quantization.QuantFormat[self.form],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            return quantised.read_bytes()


class OnnxRuntimeQOperator(OnnxRuntimeInt8):
    """The same with quantised operators in place of QuantizeLinear around float ones."""

    settings = "static quantisation, QOperator, per channel; CPU provider, all graph optimisations"
    form: ClassVar[Literal["QDQ", "QOperator"]] = "QOperator"


def _session(file: Path, threads: int, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads must not spin while another engine is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class _OnnxSession(Model):
    def __init__(self, session: Any) -> None:
        self._session = session

    def bind(self, images: Array) -> Call:
        feed, run = {"image": channels_first(images)}, self._session.run
        return lambda: run(None, feed)

    def logits(self, output: Any) -> Array:
        return np.asarray(output[0])
