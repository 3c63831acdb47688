"""Tensors, constants and operators of a ``.tflite`` file, by the schema that LiteRT ships.

With ranges the file is int8: a tensor's values are levels with a zero point, a weight's are symmetric by output
channel, a bias is int32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.quantisation import LEVELS, MOST, symmetric

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
OLD_CODES = 127
"""The last kind of operator that has a place in files of old."""

Shape = tuple[int, ...]
Ranges = Mapping[str, tuple[float, float]]
"""The smallest and the largest value of each tensor, by its name in the float32 file of the same operators."""

VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4,
    "GELU": 2,
    "HARD_SWISH": 1,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "QUANTIZE": 1,
    "RELU": 2,
    "RELU6": 2,
}
"""Operators, and the first version of each that knows int8."""


@dataclass(frozen=True)
class Levels:
    """What s8 values stand for: ``scale * (value - zero)``."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Levels:
        """Levels of a range; zero is always one of them."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-6) / LEVELS
        return cls(scale, round(-128 - low / scale))


@dataclass(frozen=True)
class Tensor:
    """A tensor of the file, which holds ``factor`` times what it stands for."""

    index: int
    shape: Shape
    levels: Levels | None = None
    factor: float = 1.0


class TfliteFile:
    """A file that is being written.

    Args:
        ranges: of the tensors; then it is int8.
    """

    def __init__(self, ranges: Ranges | None) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.ranges = ranges
        self._codes: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [self.schema.BufferT()]

    def levels(self, name: str) -> Levels | None:
        """Levels of a tensor, where the file is int8."""
        return None if self.ranges is None else Levels.of(*self.ranges[name])

    def name(self, tensor: Tensor) -> str:
        """A tensor's name."""
        return str(self._tensors[tensor.index].name)

    def tensor(self, name: str, shape: Shape, levels: Levels | None = None) -> Tensor:
        """A tensor without contents."""
        kind, scales = self.schema.TensorType.FLOAT32, None
        if levels is not None:
            kind, scales = self.schema.TensorType.INT8, self._scales(np.asarray([levels.scale]), levels.zero)
        self._tensors.append(self.schema.TensorT(list(shape), kind, 0, name, scales))
        return Tensor(len(self._tensors) - 1, shape, levels)

    def constant(self, name: str, array: NDArray[Any]) -> Tensor:
        """A float32 or int32 constant."""
        return self._constant(name, array, None)

    def number(self, name: str, value: float) -> Tensor:
        """A constant that meets maps: a positive number."""
        if self.ranges is None:
            return self.constant(name, np.full(1, value, np.float32))
        return self._constant(name, np.full(1, MOST, np.int8), self._scales(np.asarray([value / MOST])))

    def weight(
        self, name: str, arrays: tuple[NDArray[np.float32], NDArray[np.float32]], axis: int, source: Levels | None
    ) -> list[Tensor]:
        """A weight and its bias.

        Args:
            name: of what they compute.
            arrays: both.
            axis: of the weight's output channels.
            source: levels of what the weight meets.
        """
        (weight, bias), names = arrays, (f"{name}/weight", f"{name}/bias")
        if source is None:
            return [self.constant(names[0], weight), self.constant(names[1], bias)]
        others = tuple(index for index in range(weight.ndim) if index != axis)
        levels, scale = symmetric(weight.astype(np.float64), others)
        limit, ends = np.iinfo(np.int32), scale * source.scale
        sums = np.clip(np.rint(bias / ends), limit.min, limit.max).astype(np.int32)
        return [
            self._constant(names[0], levels, self._scales(scale, axis=axis)),
            self._constant(names[1], sums, self._scales(ends)),
        ]

    def add(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        name: str,
        shape: Shape,
        levels: Levels | None,
        options: Any = None,
    ) -> Tensor:
        """An operator, and the tensor of this name that it writes."""
        output = self.tensor(name, shape, levels)
        number = self._codes.setdefault(operator, len(self._codes))
        made = self.schema.OperatorT(number, [one.index for one in inputs], [output.index])
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self._operators.append(made)
        return output

    def content(self, image: Tensor, logits: Tensor) -> bytes:
        """The file, from an image to logits."""
        import flatbuffers

        schema = self.schema
        numbers = {name: getattr(schema.BuiltinOperator, name) for name in self._codes}
        codes = [
            schema.OperatorCodeT(min(number, OLD_CODES), None, VERSIONS[name], number)
            for name, number in numbers.items()
        ]
        graph = schema.SubGraphT(self._tensors, [image.index], [logits.index], self._operators, "subnet")
        model = schema.ModelT(SCHEMA_VERSION, codes, [graph], "ofa_tvm", self._buffers)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _scales(self, scale: NDArray[np.float64], zero: int = 0, axis: int = 0) -> Any:
        zeros = np.full(scale.size, zero, np.int64)
        by = {"scale": scale.astype(np.float32), "zeroPoint": zeros, "quantizedDimension": axis}
        return self.schema.QuantizationParametersT(**by)

    def _constant(self, name: str, array: NDArray[Any], scales: Any) -> Tensor:
        kind = getattr(self.schema.TensorType, array.dtype.name.upper())
        self._buffers.append(self.schema.BufferT(np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)))
        self._tensors.append(self.schema.TensorT(list(array.shape), kind, len(self._buffers) - 1, name, scales))
        return Tensor(len(self._tensors) - 1, array.shape)
