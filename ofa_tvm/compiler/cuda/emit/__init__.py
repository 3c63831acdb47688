"""Kernels for NVIDIA GPUs written directly as CUDA C, whose every load and product is chosen here.

A template is one file here and one line in ``TEMPLATES``; see ``template.CudaTemplate`` for what it offers. They
compute the kernels of ``graph.fusion`` for any batch. Several may compute a kernel; their
models' guesses decide which is its default.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from ofa_tvm.compiler.cuda.emit.conv import CONV
from ofa_tvm.compiler.cuda.emit.dense import DENSE
from ofa_tvm.compiler.cuda.emit.depthwise import DEPTHWISE
from ofa_tvm.compiler.cuda.emit.expand_depthwise import EXPAND_DEPTHWISE
from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel, gpu_model
from ofa_tvm.compiler.cuda.emit.image import IMAGE
from ofa_tvm.compiler.cuda.emit.pointwise import POINTWISE
from ofa_tvm.compiler.cuda.emit.pool import POOL
from ofa_tvm.compiler.cuda.emit.template import Array, CudaTemplate, Launch
from ofa_tvm.compiler.cuda.emit.window_pool import WINDOW_POOL
from ofa_tvm.graph.fusion import Expands
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.graph.schedule_tile import checked_tile

TEMPLATES: dict[str, CudaTemplate[Any]] = {
    "cuda_depthwise": DEPTHWISE,
    "cuda_dense": DENSE,
    "cuda_image": IMAGE,
    "cuda_pool": POOL,
    "cuda_window_pool": WINDOW_POOL,
    "cuda_pointwise": POINTWISE,
    "cuda_conv": CONV,
    "cuda_expand_depthwise": EXPAND_DEPTHWISE,
}
"""By names that no template for CPUs has: logs of both are looked through for winners."""


def has_template(spec: KernelSpec) -> bool:
    """Whether some template computes a kernel."""
    return any(template.accepts(spec) for template in TEMPLATES.values())


def candidates(spec: KernelSpec, gpu: GpuModel) -> list[KernelSchedule]:
    """Schedules worth a trial for a kernel, best guess first; the first one is its default.

    Raises:
        ValueError: no template accepts the kernel.
    """
    return [schedule for _, schedule in _ranked(spec, gpu)]


def _ranked(spec: KernelSpec, gpu: GpuModel) -> list[tuple[float, KernelSchedule]]:
    found: list[tuple[float, KernelSchedule]] = []
    for name, template in TEMPLATES.items():
        if template.accepts(spec):
            found += [(us, {"template": name, "parameters": each}) for us, each in template.candidates(spec, gpu)]
    if not found:
        raise ValueError(f"no CUDA template computes kernel {spec.key}")
    return sorted(found, key=lambda pair: pair[0])


@functools.lru_cache(maxsize=4096)
def best_guess(spec: KernelSpec, gpu: GpuModel) -> tuple[float, KernelSchedule]:
    """What a kernel runs that nobody has tuned, with its expected microseconds."""
    return _ranked(spec, gpu)[0]


def default_schedule(spec: KernelSpec, gpu: GpuModel) -> KernelSchedule:
    """What a kernel runs that nobody has tuned."""
    return best_guess(spec, gpu)[1]


def expands_on(architecture: str) -> Expands:
    """Whether an expanding and a depthwise convolution are expected to take less time as one kernel than as two."""
    gpu = gpu_model(architecture)

    def is_faster(spec: KernelSpec) -> bool:
        pair = (
            replace(spec, kind="conv", kernel_size=1, stride=1, shifted=False, valid=False),
            replace(spec, kind="depthwise", in_channels=spec.out_channels, image=False),
        )
        if not all(map(has_template, (spec, *pair))):
            return False
        return best_guess(spec, gpu)[0] < sum(best_guess(one, gpu)[0] for one in pair)

    return is_faster


class EmittedCuda:
    """A kernel with a schedule: code, launch and constants.

    Args:
        spec: the kernel.
        schedule: how it is computed.

    Raises:
        ValueError: the schedule names no template, or parameters that it does not have.
    """

    def __init__(self, spec: KernelSpec, schedule: KernelSchedule) -> None:
        template = TEMPLATES.get(schedule.get("template", ""))
        if template is None or not template.accepts(spec):
            raise ValueError(f"schedule {schedule} does not compute kernel {spec.key}")
        self._tile = checked_tile(spec, schedule, template.tile)
        if not template.suits(spec, self._tile):
            raise ValueError(f"schedule {schedule} does not suit kernel {spec.key}")
        self.spec, self.schedule, self._template = spec, schedule, template

    @property
    def source(self) -> str:
        """CUDA C of its function, in the terms of ``native/cuda_prelude.h``."""
        return self._template.emit(self.spec, self._tile)

    @property
    def launch(self) -> Launch:
        """How the function is launched."""
        return self._template.launch(self.spec, self._tile)

    def pack(self, constants: list[Array]) -> list[Array]:
        """Constants (``KernelSpec.weight_shapes``, float32) as the code reads them."""
        return self._template.pack(self.spec, self._tile, constants)

    @property
    def scratch_bytes(self) -> int:
        """Bytes that the kernel has for itself, zeros before its first call."""
        return self._template.scratch(self.spec, self._tile)
