"""How code is made for a target: CPU or GPU is decided here, once."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.compiler.cuda.emit import expands_on, has_template
from ofa_tvm.compiler.lowering import every_kernel, fused_kernels, layer_kernels
from ofa_tvm.graph.fusion import Step, fused_steps
from ofa_tvm.graph.kernel import KernelSpec, Winners
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import Weights
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.dtype import AUTO, DType
from ofa_tvm.support.errors import UserError

KernelStep = tuple[tuple[str, ...], KernelSpec]
"""The names of the layers that a kernel computes, and the kernel."""


class Library(Protocol):
    """A subnet's library, loaded where it can run; ``where`` names that place, and is empty for this machine."""

    where: ClassVar[str]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, classes) of normalised images (n, resolution, resolution, channels)."""
        ...

    def window(self, images: NDArray[np.float32], window_ms: float) -> list[float]:
        """Figures of single calls for about ``window_ms`` milliseconds; see ``timing.window.Window``."""
        ...


class Codegen(ABC):
    """What a network becomes on a target, how that is compiled, and how it is loaded on this machine."""

    form: ClassVar[Literal["subnet", "virtual_machine"]]
    """How a pack's script loads the library."""

    def __init__(self, target: TargetSpec) -> None:
        self.target = target

    @abstractmethod
    def steps(self, network: NetworkSpec) -> list[KernelStep]:
        """The kernels that a network calls, in order."""

    @abstractmethod
    def kernels(self, space: SearchSpace, resolutions: tuple[int, ...] | None = None) -> dict[str, KernelSpec]:
        """The closed set of kernels of a space, by key."""

    @abstractmethod
    def build(self, network: NetworkSpec, weights: Weights, winners: Winners, library: Path) -> None:
        """Compile a network with folded weights into a library.

        Raises:
            UserError: a compiler is not installed.
            OfaTvmError: it refused the code.
        """

    @abstractmethod
    def load(self, library: Path) -> Library:
        """Load a library that was built, on this machine."""


class CpuCodegen(Codegen):
    """Fused kernels in a library of C functions.

    Raises:
        UserError: the CPU lacks the instructions of the target's type.
    """

    form = "subnet"

    def __init__(self, target: TargetSpec) -> None:
        super().__init__(target)
        if target.dtype != "float32":
            _require(target.dtype, json.dumps(target.attributes))

    def steps(self, network: NetworkSpec) -> list[KernelStep]:
        """One kernel for several layers, see ``graph.fusion``."""
        return [(step.layers, step.kernel) for step in fused_steps(network, self.target.dtype)]

    def kernels(self, space: SearchSpace, resolutions: tuple[int, ...] | None = None) -> dict[str, KernelSpec]:
        """The kernels of ``graph.fusion``."""
        return fused_kernels(space, resolutions, self.target.dtype)

    def build(self, network: NetworkSpec, weights: Weights, winners: Winners, library: Path) -> None:
        """See ``compiler.cpu.assembler``."""
        from ofa_tvm.compiler.cpu.assembler import assemble
        from ofa_tvm.compiler.cpu.object_cache import ObjectCache

        target = self.target
        cache = ObjectCache(target.attributes)
        assemble(network, weights, winners, cache, library, target.batch, target.toolchain.linker)

    def load(self, library: Path) -> Library:
        """See ``compiler.loaded_model``."""
        from ofa_tvm.compiler.loaded_model import LoadedModel

        return LoadedModel(library)


class CudaCodegen(Codegen):
    """One kernel per layer, in a library for TVM's virtual machine."""

    form = "virtual_machine"

    def steps(self, network: NetworkSpec) -> list[KernelStep]:
        """One kernel per layer."""
        return [((layer,), kernel) for layer, kernel in network_kernels(network, self.target.batch, self.target.dtype)]

    def kernels(self, space: SearchSpace, resolutions: tuple[int, ...] | None = None) -> dict[str, KernelSpec]:
        """The kernels of all layers."""
        return layer_kernels(space, resolutions, self.target.batch, self.target.dtype)

    def build(self, network: NetworkSpec, weights: Weights, winners: Winners, library: Path) -> None:
        """See ``compiler.cuda.build``."""
        from ofa_tvm.compiler.cuda.build import build_network
        from ofa_tvm.compiler.tvm_api.names import Target

        target, linker = self.target, self.target.toolchain.linker
        gpu = Target(target.attributes)
        build_network(network, weights, winners, gpu, linker, library, target.batch, target.dtype)

    def load(self, library: Path) -> Library:
        """See ``compiler.scheduled.virtual_machine``."""
        from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel

        return VirtualMachineModel(library, "cuda")


class TemplateCudaCodegen(Codegen):
    """Fused kernels from CUDA templates, in a library that needs NVIDIA's driver alone."""

    form = "subnet"

    def steps(self, network: NetworkSpec) -> list[KernelStep]:
        """One kernel for several layers, see ``graph.fusion``.

        Raises:
            UserError: a layer's kernel has no template, or none reads what another one writes.
        """
        steps = fused_steps(network, self.target.dtype, self.target.batch, expands_on(self.target.chip))
        for step in steps:
            self._require_template(step)
        return [(step.layers, step.kernel) for step in steps]

    def kernels(self, space: SearchSpace, resolutions: tuple[int, ...] | None = None) -> dict[str, KernelSpec]:
        """The kernels of ``graph.fusion``.

        Raises:
            UserError: as by ``steps``.
        """
        return every_kernel(space, resolutions, lambda network: (kernel for _, kernel in self.steps(network)))

    def _require_template(self, step: Step) -> None:
        name, kernel, layer = self.target.name, step.kernel, step.layers[-1]
        if not has_template(kernel):
            scheduled = name.removesuffix("-templates") if name.endswith("-templates") else "cuda"
            raise UserError(
                f"layer {layer}: target {name} has no template for kernel {kernel.key}", f"use --target {scheduled}"
            )

    def build(self, network: NetworkSpec, weights: Weights, winners: Winners, library: Path) -> None:
        """See ``compiler.cuda.assembler``."""
        from ofa_tvm.compiler.cuda.assembler import assemble, make_plan

        target = self.target
        self.steps(network)  # says what has no template
        plan = make_plan(network, winners, target.chip, target.batch, target.dtype)
        assemble(plan, weights, target.toolchain.linker, library)

    def load(self, library: Path) -> Library:
        """See ``compiler.loaded_model``."""
        from ofa_tvm.compiler.loaded_model import LoadedModel

        return LoadedModel(library)


@functools.cache
def _missing(dtype: DType, attributes: str) -> str:
    """What kernels of a type need and a CPU lacks; empty where it has all."""
    from ofa_tvm.compiler.cpu.emit import NEEDS, computes
    from ofa_tvm.compiler.cpu.emit.cpu_features import cpu_features
    from ofa_tvm.compiler.tvm_api.names import Target

    return "" if computes(dtype, cpu_features(Target(json.loads(attributes)))) else NEEDS[dtype]


def _require(dtype: DType, attributes: str) -> None:
    if missing := _missing(dtype, attributes):
        others = [other for other in reversed(AUTO) if other != dtype and not _missing(other, attributes)]
        raise UserError(
            f"{json.loads(attributes)['mcpu']} has no instructions for {dtype}: {missing}",
            "leave out --dtype" if others == ["float32"] else f"give --dtype {others[0]}, or leave --dtype out",
        )


def auto_types(target: TargetSpec) -> tuple[DType, ...]:
    """What ``--dtype auto`` means on a target: those of ``AUTO`` that its CPU has; on a GPU float32."""
    if target.is_gpu:
        return ("float32",)
    attributes = json.dumps(target.attributes)
    return tuple(dtype for dtype in AUTO if not _missing(dtype, attributes))


def codegen_of(target: TargetSpec) -> Codegen:
    """How code is made for a target."""
    if not target.is_gpu:
        return CpuCodegen(target)
    return TemplateCudaCodegen(target) if target.has_templates else CudaCodegen(target)
