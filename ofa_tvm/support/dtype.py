"""Number types in memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

DType = Literal["float32", "float16", "bfloat16", "int8"]
AnyDType = Literal["float32", "float16", "bfloat16", "int8", "auto"]
"""``auto`` is the best of ``AUTO`` that a CPU has."""
AUTO: tuple[DType, ...] = ("float32", "bfloat16", "float16", "int8")
DTYPE_BYTES: dict[DType, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
DTYPE_SUFFIX: dict[DType, str] = {"float32": "", "float16": "f16", "bfloat16": "bf16", "int8": "i8"}
"""How names of files and kernels tell the type."""
FLOAT32_BYTES = DTYPE_BYTES["float32"]

NumberType = Literal["float32", "float16", "uint16", "uint8", "int8"]
"""Of an array's elements, as numpy names it; uint16 are the bits of bfloat16."""
NUMBER_BYTES: dict[NumberType, int] = {"float32": 4, "float16": 2, "uint16": 2, "uint8": 1, "int8": 1}


@dataclass(frozen=True)
class ArrayType:
    """Shape and number type of an array."""

    shape: tuple[int, ...]
    dtype: NumberType

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return NUMBER_BYTES[self.dtype] * self.elements
