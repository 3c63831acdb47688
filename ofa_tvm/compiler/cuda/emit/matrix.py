"""What products of a map's pixels and weights share: how they are cut, their registers, how weights lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import padded, values_of
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.dtype import DTYPE_BYTES, FLOAT32_BYTES, DType

SHAPES: dict[DType, tuple[tuple[int, int], ...]] = {
    "float16": ((16, 8), (16, 16), (16, 32), (32, 16), (32, 32), (64, 32)),
    "float32": ((16, 16), (16, 32), (32, 16), (32, 32), (64, 16)),
}
"""Rows and columns of a warp: of a tensor core's product, or four columns a lane and equally many rows."""
WARPS = (1, 2, 4)
CLUSTERS = (1, 2, 4, 8)
STEP_VECTORS: dict[DType, int] = {"float16": 4, "float32": 1}
"""Vectors of 16 bytes of channels in a step."""

MAX_THREADS = 512
MAX_REGISTERS = 255
SCHEDULERS, SCHEDULER_REGISTERS = 4, 16384

# Guesses, as those of GpuModel are. Cycles of a reduction, and of each partial sum in it.
REDUCTION_CYCLES, PART_CYCLES = 120, 2.0
L1_BYTES = 128.0
FMA_EFFICIENCY = 0.6
MMA_MACS = 16 * 8 * 16


@dataclass(frozen=True)
class MatrixTile:
    """How a product is cut.

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

    @property
    def part_stride(self) -> int:
        """From row to row of partial sums: eight more than a multiple of 16, so that a warp's stores meet all banks."""
        columns = self.block[1]
        return columns + 8 if columns % 16 == 0 else columns

    @property
    def part_bytes(self) -> int:
        """Of all partial sums."""
        return FLOAT32_BYTES * self.warps_k * self.block[0] * self.part_stride


def step_channels(spec: KernelSpec) -> int:
    """Channels of a step."""
    return STEP_VECTORS[spec.dtype] * values_of(spec)


def whole_vectors(spec: KernelSpec) -> bool:
    """Whether pixels are whole 16 byte reads, and results come in fours."""
    return spec.in_channels % values_of(spec) == 0 and spec.out_channels % 4 == 0


def padded_columns(spec: KernelSpec, tile: MatrixTile) -> int:
    """Columns of the weights in memory."""
    return -(-spec.out_channels // tile.block[1]) * tile.block[1]


def registers(spec: KernelSpec, tile: MatrixTile, steps: int, reads: int) -> int:
    """Of a thread, about: sums, addresses, pixels of so many reads, and weights of the steps that are under way."""
    sums = tile.rows * tile.columns // WARP
    half = (tile.rows // 2, tile.columns // 2, 8 * spec.scaled)
    pixels, weights, scales = half if spec.dtype == "float16" else (sums, 16, 4 * spec.scaled)
    return 40 + sums + pixels // 2 + (pixels + scales) * reads + weights * min(3, steps)


def fits(spec: KernelSpec, tile: MatrixTile, needed: int, shared_bytes: int) -> bool:
    """Whether code can be made of a tile that needs so many registers, and whether it fits a multiprocessor."""
    return (
        (tile.rows, tile.columns) in SHAPES[spec.dtype]
        and tile.cluster in CLUSTERS
        and tile.warps * WARP <= MAX_THREADS
        and needed <= MAX_REGISTERS
        and needed * WARP * -(-tile.warps // SCHEDULERS) <= SCHEDULER_REGISTERS
        and shared_bytes <= MAX_SHARED_BYTES
    )


def work_cycles(spec: KernelSpec, tile: MatrixTile, steps: int, map_bytes: float, gpu: GpuModel) -> float:
    """Cycles of a block, alone on a multiprocessor: its bytes from L2, its bytes from nearer, or its products.

    Args:
        spec: the kernel.
        tile: how it is cut.
        steps: of a warp.
        map_bytes: what the block reads of the map.
        gpu: where.
    """
    (rows, columns), depth, size = tile.block, steps * step_channels(spec), DTYPE_BYTES[spec.dtype]
    cycles_per_mac = gpu.mma_cycles / MMA_MACS if spec.dtype == "float16" else 1 / FMA_EFFICIENCY / gpu.fma_lanes
    ends = rows * columns * (1 + spec.residual) / tile.cluster
    moved = map_bytes + size * (columns * depth * tile.warps_k + ends)
    requested = size * tile.warps * (tile.rows + tile.columns) * depth
    products = rows * columns * depth * tile.warps_k * cycles_per_mac
    return max(moved / gpu.l2_bytes, requested / L1_BYTES, products)


def reduction_cycles(tile: MatrixTile, gpu: GpuModel) -> float:
    """Cycles in which partial sums become results."""
    rows, columns = tile.block
    reduction = REDUCTION_CYCLES + PART_CYCLES * tile.warps_k * rows * columns / (WARP * tile.warps)
    return reduction + (gpu.cluster_cycles if tile.cluster > 1 else 0)


def packed(spec: KernelSpec, matrix: Array, bias: list[Array]) -> list[Array]:
    """Weights (whole steps' channels, whole blocks' columns), in float16 in the order of lanes; the bias in float32."""
    if spec.dtype == "float16":
        # chunk, quarter, value, panel, group -> chunk, panel, group, quarter, value; a lane is 4 * group + quarter
        matrix = matrix.reshape(len(matrix) // 32, 4, 8, -1, 8).transpose(0, 3, 4, 1, 2)
    return [np.ascontiguousarray(matrix, spec.dtype), *(one.astype(np.float32) for one in bias)]


def filled(spec: KernelSpec, tile: MatrixTile, weight: Array, depth: int) -> Array:
    """Weights (..., channels, columns) with zeros behind the last channel and column."""
    return padded(weight, *weight.shape[:-2], depth, padded_columns(spec, tile))


def arguments(spec: KernelSpec) -> list[str]:
    """Of a kernel's function."""
    value, word = ("half_bits_t", "uint4") if spec.dtype == "float16" else ("float", "float4")
    return [
        f"const {value} *__restrict__ source",
        *["const float *__restrict__ scales"] * spec.scaled,
        f"const {word} *__restrict__ weights",
        *["const float *__restrict__ bias"] * spec.bias,
        *[f"const {value} *__restrict__ residual"] * spec.residual,
        "float *__restrict__ sums" if spec.pooled else f"{value} *__restrict__ map",
    ]


def matrix_defines(spec: KernelSpec, tile: MatrixTile, steps: int) -> dict[str, object]:
    """Macros of ``matrix_code``."""
    rows, columns = tile.block
    four, vector = ("uint2", "uint4") if spec.dtype == "float16" else ("float4", "float4")
    return {
        "INPUTS": spec.in_channels,
        "OUTPUTS": spec.out_channels,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "BLOCK_ROWS": rows,
        "BLOCK_COLUMNS": columns,
        "WARPS_N": tile.warps_n,
        "WARPS_K": tile.warps_k,
        "STEPS": steps,
        "PADDED": padded_columns(spec, tile),
        "PART_STRIDE": tile.part_stride,
        "ITEMS": rows * columns // 4 // tile.cluster,
        "FOUR": four,
        "VECTOR": vector,
        "BIAS": int(spec.bias),
        "SCALED": int(spec.scaled),
        "RESIDUAL": int(spec.residual),
    }
