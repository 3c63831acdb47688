"""Number types in memory."""

from __future__ import annotations

from typing import Literal

DType = Literal["float32", "float16"]
DTYPE_BYTES: dict[DType, int] = {"float32": 4, "float16": 2}
FLOAT32_BYTES = DTYPE_BYTES["float32"]
