"""Engines that run the same subnet, each behind the same two calls. A new engine is one file and one line here.

All engines get the same folded weights, and each says in what precision it computes. Imports happen in ``prepare``: an
engine that is not installed is only missing.
"""

from __future__ import annotations

from ofa_tvm.engines.base import Engine
from ofa_tvm.engines.eager_torch import Torch
from ofa_tvm.engines.lite_rt import LiteRt, LiteRtInt8
from ofa_tvm.engines.onnx_runtime import OnnxRuntime, OnnxRuntimeInt8, OnnxRuntimeQOperator
from ofa_tvm.engines.open_vino import OpenVino, OpenVinoAsInstalled, OpenVinoInt8
from ofa_tvm.engines.own_library import OfaTvm
from ofa_tvm.engines.tvm_loops import TvmLoops

ENGINES: dict[str, type[Engine]] = {
    "ofa_tvm": OfaTvm,
    "ort": OnnxRuntime,
    "ort-int8": OnnxRuntimeInt8,
    "ort-int8-qoperator": OnnxRuntimeQOperator,
    "openvino": OpenVino,
    "openvino-as-installed": OpenVinoAsInstalled,
    "openvino-int8": OpenVinoInt8,
    "litert": LiteRt,
    "litert-int8": LiteRtInt8,
    "torch": Torch,
    "loops": TvmLoops,
}


def reference_engine() -> tuple[str, Engine]:
    """Name and engine that others' outputs are checked against: ONNX Runtime, or torch where it is missing."""
    name = "ort" if OnnxRuntime().version else "torch"
    return name, ENGINES[name]()


__all__ = ["ENGINES", "Engine", "OfaTvm", "OnnxRuntime", "OpenVino", "Torch", "TvmLoops", "reference_engine"]
