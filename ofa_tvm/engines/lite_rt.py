"""LiteRT with XNNPACK, as an engine: in float32, or in int8 with ranges from calibration images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ofa_tvm.compiler.tvm_api.quiet import without_chatter
from ofa_tvm.engines.base import Array, Call, Engine, Model, Precision, calibration_images
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.tflite_export import to_tflite
from ofa_tvm.graph.tflite_file import Ranges
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.files import Record

DELEGATE = "DELEGATE"


class LiteRt(Engine):
    """LiteRT's interpreter with its default, XNNPACK."""

    package = "ai-edge-litert"
    settings = "interpreter with XNNPACK, NHWC"
    _told = ""

    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write the TensorFlow Lite model."""
        (folder / "model.tflite").write_bytes(self._model(network, weights))
        return folder / "model.tflite"

    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Make an interpreter."""
        interpreter = _interpreter(model_path=str(file), num_threads=threads)
        if not is_whole(interpreter):
            self._told = "; some operators run in LiteRT's own kernels"
        elif not self._told:
            self._told = ", which runs the whole graph"
        return _Interpreter(interpreter)

    def record(self) -> Record:
        """What it is, and whether XNNPACK ran all of what was loaded."""
        return {**super().record(), "settings": self.settings + self._told}

    def _model(self, network: NetworkSpec, weights: Weights) -> bytes:
        return to_tflite(network, weights)


class LiteRtInt8(LiteRt):
    """Static quantisation: s8 maps with a zero point, s8 weights per channel, ranges from calibration images."""

    settings = "static quantisation, per channel; interpreter with XNNPACK, NHWC"
    precision: ClassVar[Precision] = "int8"

    def _model(self, network: NetworkSpec, weights: Weights) -> bytes:
        return to_tflite(network, weights, tensor_ranges(network, weights, calibration_images(network)))


def tensor_ranges(network: NetworkSpec, weights: Weights, images: Array) -> Ranges:
    """Smallest and largest values of the tensors of ``to_tflite``, by LiteRT's own kernels."""
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = _interpreter(
        model_content=to_tflite(network, weights, is_for_int8=True),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    image_index = interpreter.get_input_details()[0]["index"]
    written = {image_index}.union(*(one["outputs"] for one in interpreter._get_ops_details()))
    names = {one["index"]: one["name"] for one in interpreter.get_tensor_details() if one["index"] in written}
    ranges: dict[str, tuple[float, float]] = {}
    for image in images:
        interpreter.set_tensor(image_index, image[None])
        interpreter.invoke()
        for index, name in names.items():
            values = interpreter.get_tensor(index)
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    return ranges


def is_whole(interpreter: Any) -> bool:
    """Whether XNNPACK runs all of a graph."""
    operators = interpreter._get_ops_details()
    pieces = [one for one in operators if one["op_name"] == DELEGATE]
    if len(pieces) != 1:
        return False
    written = {index for one in operators if one not in pieces for index in one["outputs"]}
    answer = interpreter.get_output_details()[0]["index"]
    return answer in pieces[0]["outputs"] and written.isdisjoint(pieces[0]["inputs"])


def _interpreter(**options: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    with without_chatter():
        interpreter = Interpreter(**options)
        interpreter.allocate_tensors()
    return interpreter


class _Interpreter(Model):
    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._input, self._output = (
            one[0]["index"] for one in (interpreter.get_input_details(), interpreter.get_output_details())
        )

    def bind(self, images: Array) -> Call:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(images, np.float32))
        run: Call = self._interpreter.invoke
        return run

    def logits(self, output: Any) -> Array:
        return np.asarray(self._interpreter.get_tensor(self._output))
