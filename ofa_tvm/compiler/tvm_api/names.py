"""The one door to TVM: everything that this package uses of it."""

from __future__ import annotations

import inspect
import sys
from types import FrameType

# isort: off
from ofa_tvm.compiler.tvm_api.package import tvm  # first: it checks versions and keeps torch out
from tvm import relax, rpc, te, tirx
from tvm.ir import IRModule
from tvm.s_tir import Schedule, dlight
from tvm.s_tir import meta_schedule as ms
from tvm.script.ir_builder import IRBuilder
from tvm.target import Target
from tvm.tirx.script import builder as T
from tvm_ffi import structural_hash
# isort: on


def _stack_without_source(context: int = 1) -> list[inspect.FrameInfo]:
    """``inspect.stack`` without looking up the source lines of each frame."""
    frames = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return frames


def load_tensor_intrinsics() -> None:
    """Import TVM's tensor intrinsics in about 2 s; call it before the first ``TuneContext``, which needs them.

    TVM's own import takes 20 s and more: every intrinsic calls ``inspect.stack``, which reads source files of all
    loaded modules to find lines that are never used.
    """
    original = inspect.stack
    inspect.stack = _stack_without_source
    try:
        import tvm.s_tir.tensor_intrin  # noqa: F401
    finally:
        inspect.stack = original


__all__ = [
    "IRBuilder",
    "IRModule",
    "Schedule",
    "T",
    "Target",
    "dlight",
    "load_tensor_intrinsics",
    "ms",
    "relax",
    "rpc",
    "structural_hash",
    "te",
    "tirx",
    "tvm",
]
