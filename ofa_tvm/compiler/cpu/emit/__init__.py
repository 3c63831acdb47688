"""Kernels written directly as TensorIR: register tiles whose every load, multiply-add and store is chosen here.

A template is one file here and one line in ``TEMPLATES``; see ``template.Template`` for what it offers. The first
template that accepts a kernel makes its default.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.expand_depthwise import EXPAND_DEPTHWISE
from ofa_tvm.compiler.cpu.emit.full_window import DEEP_WINDOW, FULL_WINDOW
from ofa_tvm.compiler.cpu.emit.int8_convert import DEQUANTISE, QUANTISE
from ofa_tvm.compiler.cpu.emit.int8_dense import INT8_DENSE
from ofa_tvm.compiler.cpu.emit.int8_depthwise import INT8_DEPTHWISE
from ofa_tvm.compiler.cpu.emit.int8_expand_depthwise import INT8_EXPAND_DEPTHWISE
from ofa_tvm.compiler.cpu.emit.int8_image import INT8_IMAGE, INT8_POOL
from ofa_tvm.compiler.cpu.emit.int8_pointwise import INT8_POINTWISE
from ofa_tvm.compiler.cpu.emit.pointwise import POINTWISE
from ofa_tvm.compiler.cpu.emit.pool import POOL
from ofa_tvm.compiler.cpu.emit.template import Array, Template, in_its_type
from ofa_tvm.compiler.cpu.emit.vector_ir import PrimFunc
from ofa_tvm.compiler.cpu.emit.window import DEPTHWISE
from ofa_tvm.compiler.cpu.emit.window_pool import WINDOW_POOL
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.graph.schedule_tile import checked_tile

TEMPLATES: dict[str, Template[Any]] = {
    "pointwise": POINTWISE,
    "full_window": FULL_WINDOW,
    "deep_window": DEEP_WINDOW,
    "depthwise": DEPTHWISE,
    "expand_depthwise": EXPAND_DEPTHWISE,
    "pool": POOL,
    "window_pool": WINDOW_POOL,
    "int8_pointwise": INT8_POINTWISE,
    "int8_dense": INT8_DENSE,
    "int8_image": INT8_IMAGE,
    "int8_depthwise": INT8_DEPTHWISE,
    "int8_expand_depthwise": INT8_EXPAND_DEPTHWISE,
    "int8_pool": INT8_POOL,
    "quantise": QUANTISE,
    "dequantise": DEQUANTISE,
}


NEEDS = {
    "int8": "int8 kernels need AVX2 on x86 and dot products (+dotprod) on ARM",
    "bfloat16": "bfloat16 kernels need AVX512_BF16 (AMD from Zen 4 on; Intel's Cooper Lake, and servers from Sapphire "
    "Rapids on)",
    "float16": "float16 kernels need half-precision arithmetic (+fullfp16; Cortex-A55, A76, Neoverse N1 and later)",
}
"""What not every CPU has, by the type of kernels."""


def computes(dtype: str, features: CpuFeatures) -> bool:
    """Whether a CPU has what kernels of a type need, see ``NEEDS``."""
    has = {"int8": features.dot is not None, "bfloat16": features.has_bfloat16, "float16": features.has_float16}
    return has.get(dtype, True)


def candidates(spec: KernelSpec, features: CpuFeatures) -> list[KernelSchedule]:
    """Schedules worth a trial for a kernel, best guess first; the first one is its default.

    Raises:
        ValueError: no template accepts the kernel.
    """
    schedules: list[KernelSchedule] = []
    own = in_its_type(spec, features)
    for name, template in TEMPLATES.items():
        if template.accepts(spec):
            schedules += [{"template": name, "parameters": p} for p in template.candidates(spec, own)]
    if not schedules:
        raise ValueError(f"no template computes kernel {spec.key}")
    if not computes(spec.dtype, features):
        raise ValueError(f"this CPU cannot compute kernel {spec.key}: {NEEDS[spec.dtype]}")
    return schedules


@functools.lru_cache(maxsize=4096)
def default_schedule(spec: KernelSpec, features: CpuFeatures) -> KernelSchedule:
    """What a kernel runs that nobody has tuned: the best guess."""
    return candidates(spec, features)[0]


class EmittedKernel:
    """A kernel with a schedule: code, constants and scratch memory.

    Args:
        spec: the kernel.
        schedule: how it is computed.
        features: the CPU.

    Raises:
        ValueError: the schedule names no template, or parameters that it does not have.
    """

    def __init__(self, spec: KernelSpec, schedule: KernelSchedule, features: CpuFeatures) -> None:
        template = TEMPLATES.get(schedule.get("template", ""))
        if template is None or not template.accepts(spec):
            raise ValueError(f"schedule {schedule} does not compute kernel {spec.key}")
        self._tile = checked_tile(spec, schedule, template.tile)
        features = in_its_type(spec, features)
        if not template.suits(spec, self._tile, features):
            raise ValueError(f"schedule {schedule} does not suit kernel {spec.key}")
        self.spec, self.schedule = spec, schedule
        self._template, self._features = template, features

    def function(self) -> PrimFunc:
        """The ``PrimFunc``."""
        return self._template.emit(self.spec, self._tile, self._features)

    def pack(self, constants: list[Array]) -> list[Array]:
        """Constants (``KernelSpec.weight_types``) as the code reads them."""
        packed = self._template.pack(self.spec, self._tile, constants, self._features)
        return [array.astype(np.float16) for array in packed] if self.spec.dtype == "float16" else packed

    @property
    def scratch_floats(self) -> int:
        """Floats of scratch memory of each thread."""
        return self._template.scratch(self.spec, self._tile, self._features)
