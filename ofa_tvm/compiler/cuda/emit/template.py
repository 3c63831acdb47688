"""What every template of CUDA kernels offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import Activation

MAX_CANDIDATES = 24
"""Of a template."""
MAX_SHARED_BYTES = 48 << 10
"""Static shared memory of a thread block."""
WARP = 32

Array = NDArray[Any]
Tile = TypeVar("Tile")


@dataclass(frozen=True)
class Launch:
    """How a kernel's function is launched.

    Args:
        grid: thread blocks along x, y and z.
        threads: of a block, along x.
        cluster: blocks along z that share their memory; 1 for none.
    """

    grid: tuple[int, int, int]
    threads: int
    cluster: int = 1


@dataclass(frozen=True)
class CudaTemplate(Generic[Tile]):
    """A family of kernels.

    Args:
        tile: frozen dataclass of its parameters, which are numbers.
        accepts: whether it can compute a kernel.
        tiles: tiles of a kernel worth a trial with their expected microseconds, in any order.
        emit: CUDA C of one function, named as the kernel's symbol, in the terms of ``native/cuda_prelude.h``. Its
            arguments are pointers: source, [scales], constants, [residual], [map], [sums], [scratch].
        launch: how it is launched.
        pack: the constants (float32 arrays in the shapes of ``KernelSpec.weight_shapes``) as the code reads them.
        scratch: bytes of memory that a kernel has for itself, zeros before its first call.
        suits: whether a tile makes sense for a kernel, as far as ``tiles`` knows and a damaged log may not.
    """

    tile: Callable[..., Tile]
    accepts: Callable[[KernelSpec], bool]
    tiles: Callable[[KernelSpec, GpuModel], Iterable[tuple[float, Tile]]]
    emit: Callable[[KernelSpec, Tile], str]
    launch: Callable[[KernelSpec, Tile], Launch]
    pack: Callable[[KernelSpec, Tile, list[Array]], list[Array]]
    scratch: Callable[[KernelSpec, Tile], int] = lambda spec, tile: 0
    suits: Callable[[KernelSpec, Tile], bool] = lambda spec, tile: True

    def candidates(self, spec: KernelSpec, gpu: GpuModel) -> list[tuple[float, dict[str, object]]]:
        """Parameters worth a trial with their expected microseconds, best guess first."""
        ranked = dict.fromkeys(sorted(self.tiles(spec, gpu), key=lambda pair: pair[0]))
        return [(us, asdict(tile)) for us, tile in list(ranked)[:MAX_CANDIDATES]]  # type: ignore[call-overload]


ACTIVATED: dict[Activation, str] = {
    "none": "x",
    "relu": "fmaxf(x, 0.f)",
    "relu6": "fminf(fmaxf(x, 0.f), 6.f)",
    "hard_swish": "x * fminf(fmaxf(x * (1.f / 6.f) + .5f, 0.f), 1.f)",
    "hard_sigmoid": "fminf(fmaxf(x * (1.f / 6.f) + .5f, 0.f), 1.f)",
    "silu": "x / (1.f + expf(-x))",
    "sigmoid": "1.f / (1.f + expf(-x))",
    "gelu": "x * (erff(x * 0.70710678f) + 1.f) * .5f",
}
"""What an activation makes of ``x``."""


def is_float(spec: KernelSpec) -> bool:
    """Whether the types are those that templates read: maps of either type, vectors of float32, no image as a map."""
    return spec.dtype == "float32" or (spec.dtype == "float16" and spec.float_vectors and not spec.image)


def function(spec: KernelSpec, launch: Launch, names: list[str], defines: dict[str, object], body: str) -> str:
    """CUDA C of a kernel.

    Args:
        spec: the kernel.
        launch: how it is launched.
        names: of its arguments, each declared as ``type *name`` with a type of the prelude.
        defines: macros of the body.
        body: statements, in which ``activated(x)`` is the kernel's activation.
    """
    macros = {"THREADS": launch.threads, "CLUSTER": launch.cluster, **defines}
    # One block at least: without it the assembler spills registers to make room for a second one.
    bounds = f"__launch_bounds__({launch.threads}, 1)"
    if launch.cluster > 1:
        bounds = f"CLUSTER_DIMS({launch.cluster}) {bounds}"
    return "\n".join(
        [
            *(f"#define {name} {value}" for name, value in macros.items()),
            f"#define activated(x_) [](const float x) {{ return {ACTIVATED[spec.activation]}; }}(x_)",
            f'extern "C" __global__ void {bounds} {spec.symbol}({", ".join(names)}) {{',
            body.strip("\n"),
            "}",
            *(f"#undef {name}" for name in ("activated", *macros)),
            "",
        ]
    )
