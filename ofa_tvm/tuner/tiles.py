"""The tiles of a target's templates: which are worth a trial, and whose winners are worth one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Protocol

from ofa_tvm.compiler.cpu import emit as cpu_emit
from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
from ofa_tvm.compiler.cuda import emit as cuda_emit
from ofa_tvm.compiler.cuda.emit.gpu_model import gpu_model
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSchedule, KernelSpec
from ofa_tvm.hardware.target import TargetAttributes
from ofa_tvm.support.files import Record


class Tiles(Protocol):
    """Schedules of templates for one target."""

    def ranked(self, spec: KernelSpec) -> list[KernelSchedule]:
        """Those worth a trial, best guess first; the first one is the default."""
        ...

    def compute(self, spec: KernelSpec, schedule: KernelSchedule) -> bool:
        """Whether this version computes the kernel on the target by a schedule of another log, or of a neighbour."""
        ...

    def unlike(self, conditions: Record) -> list[float]:
        """How another log's conditions differ from the target: the smaller, the likelier its winners are good here."""
        ...


def _is_made(kernel: Callable[[], object]) -> bool:
    try:
        kernel()
    except ValueError:
        return False
    return True


class CpuTiles:
    """Of ``compiler.cpu.emit``.

    Args:
        target: TVM's attributes of the target.
    """

    def __init__(self, target: TargetAttributes) -> None:
        self._features = cpu_features(Target(target))

    def ranked(self, spec: KernelSpec) -> list[KernelSchedule]:
        """By expected cycles."""
        return cpu_emit.candidates(spec, self._features)

    def compute(self, spec: KernelSpec, schedule: KernelSchedule) -> bool:
        """Whether the template exists, and the tile suits kernel and CPU."""
        return _is_made(lambda: cpu_emit.EmittedKernel(spec, schedule, self._features))

    def unlike(self, conditions: Record) -> list[float]:
        """In vector lanes, then registers, then cores."""
        mine, other = astuple(self._features), conditions.get("target", {})
        if other.get("kind") != "llvm":
            return [1.0] * len(mine)
        return [float(theirs != own) for theirs, own in zip(astuple(cpu_features(Target(other))), mine, strict=True)]


class CudaTiles:
    """Of ``compiler.cuda.emit``.

    Args:
        target: TVM's attributes of the target.
    """

    def __init__(self, target: TargetAttributes) -> None:
        self._gpu = gpu_model(target["arch"])

    def ranked(self, spec: KernelSpec) -> list[KernelSchedule]:
        """By expected microseconds."""
        return cuda_emit.candidates(spec, self._gpu)

    def compute(self, spec: KernelSpec, schedule: KernelSchedule) -> bool:
        """Whether the template exists, and the tile suits the kernel."""
        return _is_made(lambda: cuda_emit.EmittedCuda(spec, schedule))

    def unlike(self, conditions: Record) -> list[float]:
        """In architecture; CPUs come last."""
        other = conditions.get("target", {})
        if other.get("kind") != "cuda":
            return [float("inf")]
        return [abs(int(other["arch"][3:]) - int(self._gpu.architecture[3:]))]
