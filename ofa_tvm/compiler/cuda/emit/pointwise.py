"""1x1 convolutions: a matrix product of a map's pixels and the weights, fused to its ends.

Small products wait for memory, not for arithmetic. So the sum over channels is split over the warps of a block and the
blocks of a cluster, until each has a step or two, and all that can be is asked for before the kernel waits for the one
before it. Only partial sums go through shared memory: lanes read pixels and weights in the order of their products.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import PROLOGUE_CYCLES, is_power_of_two, padded, rounds
from ofa_tvm.compiler.cuda.emit.pointwise_code import PRODUCTS, REST, START, SUMS
from ofa_tvm.compiler.cuda.emit.template import (
    MAX_SHARED_BYTES,
    WARP,
    Array,
    CudaTemplate,
    Launch,
    function,
    is_float,
)
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.dtype import DTYPE_BYTES, FLOAT32_BYTES, DType

SHAPES: dict[DType, tuple[tuple[int, int], ...]] = {
    "float16": ((16, 8), (16, 16), (16, 32), (32, 16), (32, 32), (64, 32)),
    "float32": ((16, 16), (16, 32), (32, 16), (32, 32), (64, 16)),
}
"""Rows and columns of a warp: of a tensor core's product, or four columns a lane and equally many rows."""
WARPS = (1, 2, 4)
WARPS_K = (1, 2, 3, 4, 5, 6, 8, 16)
CLUSTERS = (1, 2, 4, 8)
CHUNK: dict[DType, int] = {"float16": 32, "float32": 4}
"""Channels of a step."""

MAX_THREADS = 512
MAX_REGISTERS = 255
SCHEDULERS, SCHEDULER_REGISTERS = 4, 16384
POOLED_COLUMNS = 128
"""Of a block, at most: a warp's lanes have four each."""

# Guesses, as those of GpuModel are. Cycles of a reduction, and of each partial sum in it.
REDUCTION_CYCLES, PART_CYCLES = 120, 2.0
L1_BYTES = 128.0
FMA_EFFICIENCY = 0.6
MMA_MACS = 16 * 8 * 16


@dataclass(frozen=True)
class PointwiseTile:
    """How the product is cut.

    Args:
        rows: pixels of a warp.
        columns: output channels of a warp.
        warps_m: warps of a block with other pixels.
        warps_n: warps of a block with other output channels.
        warps_k: warps of a block that share a sum.
        cluster: blocks that share a sum.
    """

    rows: int
    columns: int
    warps_m: int
    warps_n: int
    warps_k: int
    cluster: int

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of a thread block."""
        return self.rows * self.warps_m, self.columns * self.warps_n

    @property
    def warps(self) -> int:
        """Of a thread block."""
        return self.warps_m * self.warps_n * self.warps_k

    @property
    def slices(self) -> int:
        """Warps that share a sum."""
        return self.warps_k * self.cluster


def accepts(spec: KernelSpec) -> bool:
    """1x1 convolutions whose pixels are whole 16 byte reads."""
    is_pointwise = spec.kind == "conv" and spec.kernel_size == spec.stride == spec.groups == 1
    whole = spec.in_channels * DTYPE_BYTES[spec.dtype] % 16 == 0 and spec.out_channels % 4 == 0
    return is_pointwise and is_float(spec) and whole


def tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, PointwiseTile]]:
    """Tiles with their expected microseconds."""
    for warps_k, cluster in product(WARPS_K, CLUSTERS if gpu.has_clusters else (1,)):
        covered = _steps(spec, warps_k * cluster) * warps_k * cluster * CHUNK[spec.dtype]
        if covered > 1.5 * spec.in_channels + 32:
            continue
        for shape, warps_m, warps_n in product(SHAPES[spec.dtype], WARPS, WARPS):
            tile = PointwiseTile(*shape, warps_m, warps_n, warps_k, cluster)
            if suits(spec, tile):
                yield expected_us(spec, tile, gpu), tile


def suits(spec: KernelSpec, tile: PointwiseTile) -> bool:
    """Whether code can be made of a tile, and whether it fits a multiprocessor."""
    is_known = (tile.rows, tile.columns) in SHAPES[spec.dtype] and tile.cluster in CLUSTERS
    # Sums of a map's channels are those of one block, each thread's of four columns.
    columns = tile.block[1]
    is_pooling = tile.cluster == 1 and columns <= POOLED_COLUMNS and is_power_of_two(columns)
    threads, registers = WARP * tile.warps, _registers(spec, tile)
    fits = (
        threads <= MAX_THREADS
        and registers <= MAX_REGISTERS
        and registers * WARP * -(-tile.warps // SCHEDULERS) <= SCHEDULER_REGISTERS
        and _shared_bytes(spec, tile) <= MAX_SHARED_BYTES
    )
    return is_known and fits and (is_pooling or not spec.pooled)


def expected_us(spec: KernelSpec, tile: PointwiseTile, gpu: GpuModel) -> float:
    """What a tile may take: trips to memory in turn, and the busiest multiprocessor's bytes or products."""
    steps, warps, (rows, columns) = _steps(spec, tile.slices), tile.warps, tile.block
    depth, size = steps * CHUNK[spec.dtype], DTYPE_BYTES[spec.dtype]
    cycles_per_mac = gpu.mma_cycles / MMA_MACS if spec.dtype == "float16" else 1 / FMA_EFFICIENCY / gpu.fma_lanes
    moved = (rows + columns) * depth * tile.warps_k + rows * columns * (1 + spec.residual) / tile.cluster
    requested = warps * (tile.rows + tile.columns) * depth
    products = rows * columns * depth * tile.warps_k * cycles_per_mac
    work = max(moved * size / gpu.l2_bytes, requested * size / L1_BYTES, products)

    reduction = REDUCTION_CYCLES + PART_CYCLES * tile.warps_k * rows * columns / (WARP * warps)
    reduction += gpu.cluster_cycles if tile.cluster > 1 else 0
    # Two steps are under way at a time; the last trip is that of the results.
    trips = PROLOGUE_CYCLES + (-(-steps // 2) + 1) * gpu.l2_cycles + reduction
    made = launch(spec, tile)
    times = rounds(gpu, made, _registers(spec, tile), _shared_bytes(spec, tile))
    return gpu.us((times * trips + gpu.waves(prod(made.grid)) * work) * _passes(spec, tile))


def launch(spec: KernelSpec, tile: PointwiseTile) -> Launch:
    """Blocks of pixels, of output channels and of input channels."""
    rows, columns = tile.block
    images = _images(spec)
    tiles_of_image = 1 if spec.pooled else -(-_pixels(spec) // rows)
    grid = (images * tiles_of_image, -(-spec.out_channels // columns), tile.cluster)
    return Launch(grid, WARP * tile.warps, tile.cluster)


def pack(spec: KernelSpec, tile: PointwiseTile, constants: list[Array]) -> list[Array]:
    """Weights filled up with zeros, in float16 in the order of a warp's lanes; the bias in float32."""
    weight, *bias = constants
    deep = _steps(spec, tile.slices) * tile.slices * CHUNK[spec.dtype]
    packed = padded(weight.reshape(spec.in_channels, spec.out_channels), deep, _padded_columns(spec, tile))
    if spec.dtype == "float16":
        # chunk, quarter, value, panel, group -> chunk, panel, group, quarter, value; a lane is 4 * group + quarter
        packed = packed.reshape(deep // 32, 4, 8, -1, 8).transpose(0, 3, 4, 1, 2)
    return [np.ascontiguousarray(packed, spec.dtype), *(one.astype(np.float32) for one in bias)]


def emit(spec: KernelSpec, tile: PointwiseTile) -> str:
    """CUDA C."""
    rows, columns = tile.block
    value, four, word = ("half_bits_t", "uint2", "uint4") if spec.dtype == "float16" else ("float", "float4", "float4")
    names = [
        f"const {value} *__restrict__ source",
        *["const float *__restrict__ scales"] * spec.scaled,
        f"const {word} *__restrict__ weights",
        *["const float *__restrict__ bias"] * spec.bias,
        *[f"const {value} *__restrict__ residual"] * spec.residual,
        "float *__restrict__ sums" if spec.pooled else f"{value} *__restrict__ map",
    ]
    made = launch(spec, tile)
    defines: dict[str, object] = {
        "PIXELS": _pixels(spec),
        "INPUTS": spec.in_channels,
        "OUTPUTS": spec.out_channels,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "BLOCK_ROWS": rows,
        "BLOCK_COLUMNS": columns,
        "WARPS_N": tile.warps_n,
        "WARPS_K": tile.warps_k,
        "TILES": made.grid[0] // _images(spec),
        "PASSES": _passes(spec, tile),
        "STEPS": _steps(spec, tile.slices),
        "PADDED": _padded_columns(spec, tile),
        "STRIDE": _stride(columns),
        "ITEMS": rows * columns // 4 // tile.cluster,
        "VALUES": 4,
        "GROUPS": columns // 4,
        "CHANNELS": columns,
        "FOUR": four,
        "BIAS": int(spec.bias),
        "SCALED": int(spec.scaled),
        "RESIDUAL": int(spec.residual),
        "POOLED": int(spec.pooled),
    }
    return function(spec, made, names, defines, START + PRODUCTS[spec.dtype] + REST + SUMS * spec.pooled)


def _images(spec: KernelSpec) -> int:
    """Images that no block mixes: each has its own scales or sums. Else all are one."""
    return spec.batch if spec.scaled or spec.pooled else 1


def _pixels(spec: KernelSpec) -> int:
    """Of each of ``_images``."""
    return spec.batch * spec.in_size**2 // _images(spec)


def _passes(spec: KernelSpec, tile: PointwiseTile) -> int:
    """Blocks of rows that a block computes one after the other."""
    return -(-_pixels(spec) // tile.block[0]) if spec.pooled else 1


def _steps(spec: KernelSpec, slices: int) -> int:
    """Of a warp."""
    return -(-spec.in_channels // (CHUNK[spec.dtype] * slices))


def _padded_columns(spec: KernelSpec, tile: PointwiseTile) -> int:
    """Columns of the weights in memory."""
    return -(-spec.out_channels // tile.block[1]) * tile.block[1]


def _stride(columns: int) -> int:
    """From row to row of partial sums: eight more than a multiple of 16, so that a warp's stores meet all banks."""
    return columns + 8 if columns % 16 == 0 else columns


def _shared_bytes(spec: KernelSpec, tile: PointwiseTile) -> int:
    """Partial sums, and those of ``SUMS``."""
    rows, columns = tile.block
    return FLOAT32_BYTES * (tile.warps_k * rows * _stride(columns) + spec.pooled * tile.warps * columns)


def _registers(spec: KernelSpec, tile: PointwiseTile) -> int:
    """Of a thread, about: sums, addresses, and pixels and weights of the steps that are under way."""
    sums, steps = tile.rows * tile.columns // WARP, _steps(spec, tile.slices)
    half = (tile.rows // 2, tile.columns // 2, 8 * spec.scaled)
    pixels, weights, scales = half if spec.dtype == "float16" else (sums, 16, 4 * spec.scaled)
    return 40 + sums + pixels // 2 + (pixels + scales) * min(2, steps) + weights * min(3, steps)


POINTWISE = CudaTemplate(PointwiseTile, accepts, tiles, emit, launch, pack, suits=suits)
