"""What every template of kernels offers, and the arithmetic that ranks its tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from numpy.typing import NDArray

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.vector_ir import PrimFunc
from ofa_tvm.graph.bfloat16 import PAIR
from ofa_tvm.graph.kernel import KernelSpec

FMA_LATENCY_CYCLES = 4
PER_CYCLE = 2
TAKEN = 4
"""Micro-operations that an ARM core takes in a cycle."""
LOAD = 2
"""Micro-operations of a vector that is loaded."""
LOOP = 4
"""Micro-operations of a turn of a loop."""
NEON_FLOATS = 4
TIGHT = 1.2
"""How much slower float16 tiles of many pixels may be that take nearly all registers: only half of these can hold what
all lanes are multiplied by, so LLVM sometimes moves sums about."""
CROWDED = 1.3
MAX_CANDIDATES = 24

Array = NDArray[Any]
Tile = TypeVar("Tile")


@dataclass(frozen=True)
class Template(Generic[Tile]):
    """A family of kernels.

    Args:
        tile: frozen dataclass of its parameters, which are numbers and strings.
        accepts: whether it can compute a kernel.
        tiles: tiles of a kernel worth a trial with their expected cycles, in any order.
        emit: the ``PrimFunc`` of a kernel with a tile. Its arguments are the task, source, [scales], weights,
            [residual], [map], [sums], [scratch], all flat.
        pack: the constant arrays (``KernelSpec.weight_types``) in the order in which the kernel reads them.
        scratch: floats of scratch memory that each thread needs.
        suits: whether a tile makes sense for a kernel, as far as ``tiles`` knows and a damaged log may not.
    """

    tile: Callable[..., Tile]
    accepts: Callable[[KernelSpec], bool]
    tiles: Callable[[KernelSpec, CpuFeatures], Iterable[tuple[float, Tile]]]
    emit: Callable[[KernelSpec, Tile, CpuFeatures], PrimFunc]
    pack: Callable[[KernelSpec, Tile, list[Array], CpuFeatures], list[Array]]
    scratch: Callable[[KernelSpec, Tile, CpuFeatures], int] = lambda spec, tile, features: 0
    suits: Callable[[KernelSpec, Tile, CpuFeatures], bool] = lambda spec, tile, features: True

    def candidates(self, spec: KernelSpec, features: CpuFeatures) -> list[dict[str, object]]:
        """Parameters worth a trial, best guess first."""
        ranked = dict.fromkeys(tile for _, tile in sorted(self.tiles(spec, features), key=lambda pair: pair[0]))
        return [asdict(tile) for tile in list(ranked)[:MAX_CANDIDATES]]  # type: ignore[call-overload]


def is_float(spec: KernelSpec) -> bool:
    """Whether a template of float types computes a kernel: one image a call."""
    return spec.dtype != "int8" and spec.batch == 1


def arithmetic(spec: KernelSpec) -> Literal["float32", "float16"]:
    """The type of what follows a kernel's sums: float16 where that is a map's, but for vectors and pools float32."""
    is_half = spec.dtype == "float16" and spec.kind in ("conv", "depthwise", "expand_depthwise")
    return "float16" if is_half else "float32"


NUMBER_BYTES = {"float32": 4, "float16": 2}
"""Of what a kernel computes in."""


def in_its_type(spec: KernelSpec, features: CpuFeatures) -> CpuFeatures:
    """A CPU as a template sees it: ``lanes`` are of what the kernel multiplies."""
    is_half = spec.dtype == "float16" and spec.kind not in ("pool", "max_pool", "average_pool")
    return replace(features, lanes=2 * features.lanes) if is_half else features


def product_steps(spec: KernelSpec) -> int:
    """Steps of a product over input channels: pairs, where they are bfloat16."""
    return spec.in_channels // PAIR if spec.dtype == "bfloat16" else spec.in_channels


def as_they_are(spec: KernelSpec, tile: object, constants: list[Array], features: CpuFeatures) -> list[Array]:
    """A ``Template.pack`` that changes nothing."""
    return constants


def block_sizes(total: int, size: int) -> list[tuple[int, int]]:
    """(extent, how many) of the blocks that ``blocks`` makes."""
    full, rest = divmod(total, size)
    return [(extent, count) for extent, count in ((size, full), (rest, 1)) if extent and count]


def shared_blocks(total: int, size: int, threads: int) -> float:
    """How much longer the slowest of several threads works than if the work were split evenly (1 or more)."""
    count = -(-total // size)
    return -(-count // threads) * threads / count


def tile_cycles(pixels: int, channels: int, lanes: int) -> float:
    """Cycles that one step of a register tile's reduction takes."""
    vectors = -(-channels // lanes)
    return max(pixels * vectors / PER_CYCLE, (pixels + vectors) / PER_CYCLE, FMA_LATENCY_CYCLES)


def step_cycles(pixels: int, channels: int, features: CpuFeatures) -> float:
    """``tile_cycles`` of a product in floats; on ARM loads take the place of products, so square tiles are best."""
    vectors, cycles = -(-channels // features.lanes), tile_cycles(pixels, channels, features.lanes)
    if not features.is_neon:
        return cycles
    products = pixels * vectors
    cycles = max(cycles, (products + LOAD * (pixels + vectors) + LOOP) / TAKEN)
    is_tight = features.lanes > NEON_FLOATS and pixels > 8 and products + vectors + 1 > features.registers - 2
    return TIGHT * cycles if is_tight else cycles


def crowding(sums: int, features: CpuFeatures) -> float:
    """How much slower a window's tile is that has so many vectors of sums.

    On ARM they may take half of the registers: LLVM loads inputs that taps share, or weights of several vectors, before
    it needs them. On x86 products read one factor from memory.
    """
    return CROWDED if features.is_neon and sums > features.registers // 2 else 1.0


def panel_widths(channels: int, features: CpuFeatures) -> list[int]:
    """Widths of a register tile worth a trial: whole vectors that cut the channels evenly enough, or all of them."""
    lanes = features.lanes
    most = features.registers // 3
    whole = [lanes * count for count in range(1, most + 1) if lanes * count <= channels]
    narrow = [channels] if channels < lanes * most and channels % lanes else []
    return whole + narrow


def fits(pixels: int, channels: int, features: CpuFeatures) -> bool:
    """Whether a register tile leaves room for one row of weights and an input."""
    vectors = -(-channels // features.lanes)
    return pixels * vectors + vectors + 1 <= features.registers
