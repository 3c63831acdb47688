"""1x1 convolutions: a matrix product of a map's pixels and the weights, fused to its ends.

Small products wait for memory, not for arithmetic. So the sum over channels is split over the warps of a block and the
blocks of a cluster, until each has a step or two, and all that can be is asked for before the kernel waits for the one
before it. Only partial sums go through shared memory: lanes read pixels and weights in the order of their products.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.matrix import (
    CLUSTERS,
    SHAPES,
    WARPS,
    MatrixTile,
    arguments,
    filled,
    fits,
    matrix_defines,
    packed,
    reduction_cycles,
    registers,
    step_channels,
    whole_vectors,
    work_cycles,
)
from ofa_tvm.compiler.cuda.emit.parts import PROLOGUE_CYCLES, is_power_of_two, rounds
from ofa_tvm.compiler.cuda.emit.pointwise_code import body
from ofa_tvm.compiler.cuda.emit.template import WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.support.dtype import DTYPE_BYTES, FLOAT32_BYTES

WARPS_K = (1, 2, 3, 4, 5, 6, 8, 16)
POOLED_COLUMNS = 128
"""Of a block, at most: a warp's lanes have four each."""


def accepts(spec: KernelSpec) -> bool:
    """1x1 convolutions whose pixels are whole 16 byte reads."""
    is_pointwise = spec.kind == "conv" and spec.kernel_size == spec.stride == spec.groups == 1
    return is_pointwise and is_float(spec) and whole_vectors(spec)


def tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, MatrixTile]]:
    """Tiles with their expected microseconds."""
    chunk = step_channels(spec)
    for warps_k, cluster in product(WARPS_K, CLUSTERS if gpu.has_clusters else (1,)):
        if _steps(spec, warps_k * cluster) * warps_k * cluster * chunk > 1.5 * spec.in_channels + 32:
            continue
        for shape, warps_m, warps_n in product(SHAPES[spec.dtype], WARPS, WARPS):
            tile = MatrixTile(*shape, warps_m, warps_n, warps_k, cluster)
            if suits(spec, tile):
                yield expected_us(spec, tile, gpu), tile


def suits(spec: KernelSpec, tile: MatrixTile) -> bool:
    """Whether code can be made of a tile, and whether it fits a multiprocessor."""
    # Sums of a map's channels are those of one block, each thread's of four columns.
    columns = tile.block[1]
    is_pooling = tile.cluster == 1 and columns <= POOLED_COLUMNS and is_power_of_two(columns)
    is_possible = fits(spec, tile, _registers(spec, tile), _shared_bytes(spec, tile))
    return is_possible and (is_pooling or not spec.pooled)


def expected_us(spec: KernelSpec, tile: MatrixTile, gpu: GpuModel) -> float:
    """What a tile may take: trips to memory in turn, and the busiest multiprocessor's bytes or products."""
    steps = _steps(spec, tile.slices)
    map_bytes = tile.block[0] * steps * step_channels(spec) * tile.warps_k * DTYPE_BYTES[spec.dtype]
    work = work_cycles(spec, tile, steps, map_bytes, gpu)
    # Two steps are under way at a time; the last trip is that of the results.
    trips = PROLOGUE_CYCLES + (-(-steps // 2) + 1) * gpu.l2_cycles + reduction_cycles(tile, gpu)
    made = launch(spec, tile)
    times = rounds(gpu, made, _registers(spec, tile), _shared_bytes(spec, tile))
    return gpu.us((times * trips + gpu.waves(prod(made.grid)) * work) * _passes(spec, tile))


def launch(spec: KernelSpec, tile: MatrixTile) -> Launch:
    """Blocks of pixels, of output channels and of input channels."""
    rows, columns = tile.block
    images = _images(spec)
    tiles_of_image = 1 if spec.pooled else -(-_pixels(spec) // rows)
    grid = (images * tiles_of_image, -(-spec.out_channels // columns), tile.cluster)
    return Launch(grid, WARP * tile.warps, tile.cluster)


def pack(spec: KernelSpec, tile: MatrixTile, constants: list[Array]) -> list[Array]:
    """Weights filled up with zeros, in the order of a warp's reads; the bias."""
    weight, *bias = constants
    depth = _steps(spec, tile.slices) * tile.slices * step_channels(spec)
    return packed(spec, filled(spec, tile, weight.reshape(spec.in_channels, spec.out_channels), depth), bias)


def emit(spec: KernelSpec, tile: MatrixTile) -> str:
    """CUDA C."""
    made, columns = launch(spec, tile), tile.block[1]
    defines = matrix_defines(spec, tile, _steps(spec, tile.slices)) | {
        "PIXELS": _pixels(spec),
        "TILES": made.grid[0] // _images(spec),
        "PASSES": _passes(spec, tile),
        "VALUES": 4,
        "GROUPS": columns // 4,
        "CHANNELS": columns,
    }
    return function(spec, made, arguments(spec), defines, body(spec.dtype, spec.pooled))


def _images(spec: KernelSpec) -> int:
    """Images that no block mixes: each has its own scales or sums. Else all are one."""
    return spec.batch if spec.scaled or spec.pooled else 1


def _pixels(spec: KernelSpec) -> int:
    """Of each of ``_images``."""
    return spec.batch * spec.in_size**2 // _images(spec)


def _passes(spec: KernelSpec, tile: MatrixTile) -> int:
    """Blocks of rows that a block computes one after the other."""
    return -(-_pixels(spec) // tile.block[0]) if spec.pooled else 1


def _steps(spec: KernelSpec, slices: int) -> int:
    """Of a warp."""
    return -(-spec.in_channels // (step_channels(spec) * slices))


def _shared_bytes(spec: KernelSpec, tile: MatrixTile) -> int:
    """Partial sums, and those of ``SUMS``."""
    return tile.part_bytes + FLOAT32_BYTES * spec.pooled * tile.warps * tile.block[1]


def _registers(spec: KernelSpec, tile: MatrixTile) -> int:
    steps = _steps(spec, tile.slices)
    return registers(spec, tile, steps, min(2, steps))


POINTWISE = CudaTemplate(MatrixTile, accepts, tiles, emit, launch, pack, suits=suits)
