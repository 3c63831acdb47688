"""ONNX Runtime, as an engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ofa_tvm.engines.base import Array, Call, Engine, Model, channels_first
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights


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
