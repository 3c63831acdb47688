"""Convolutions of maps with a window over all channels, with strides, and 1x1 ones of many pixels.

A matrix product as in ``pointwise``, but pixels come from shared memory. A block copies the part of the map that its
pixels' windows cover, zeros around it, some channels at a time: while it computes with one stage's channels, the next
ones are on their way. So a loop over many channels waits for memory once a stage, not once a step, and a pixel that
several windows cover is read once. Where a map is small, warps share the steps of a stage and blocks of a cluster the
channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from ofa_tvm.compiler.cuda.emit.conv_code import body
from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.matrix import (
    CLUSTERS,
    SCHEDULERS,
    SHAPES,
    STEP_VECTORS,
    WARPS,
    MatrixTile,
    arguments,
    filled,
    fits,
    matrix_defines,
    packed,
    reduction_cycles,
    registers,
    whole_vectors,
    work_cycles,
)
from ofa_tvm.compiler.cuda.emit.parts import BARRIER_CYCLES, MAX_GRID, PROLOGUE_CYCLES, VECTOR_BYTES, rounds, values_of
from ofa_tvm.compiler.cuda.emit.template import WARP, Array, CudaTemplate, Launch, function, is_float
from ofa_tvm.graph.kernel import KernelSpec

MAX_KERNEL = 9
BANK_VECTORS = 8
"""Vectors of 16 bytes that shared memory reads at once."""
GROUPS = (16, 8, 4, 2, 1)
OFFERED_GROUPS = 2
"""Most tiles that differ in their stages alone."""

# Guesses. Cycles from a step's read of shared memory to its products, and instructions that copy 16 bytes.
STEP_CYCLES, COPY_INSTRUCTIONS = 30, 14


@dataclass(frozen=True)
class ConvTile(MatrixTile):
    """How the product is cut, and the block's part of the map.

    Args:
        across: output pixels of a block beside each other.
        groups: vectors of input channels in a stage.
    """

    across: int
    groups: int


@dataclass(frozen=True)
class _Cut:
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: ConvTile

    @functools.cached_property
    def is_list(self) -> bool:
        """Whether all images' pixels are one row."""
        return self.spec.kernel_size == self.spec.stride == 1 and not self.spec.scaled

    @functools.cached_property
    def batch(self) -> int:
        return 1 if self.is_list else self.spec.batch

    @functools.cached_property
    def out(self) -> tuple[int, int]:
        size = self.spec.out_size
        return (1, self.spec.batch * size**2) if self.is_list else (size, size)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        return self.out if self.is_list else (self.spec.in_size, self.spec.in_size)

    @functools.cached_property
    def down(self) -> int:
        """Rows of the block's output pixels."""
        return min(self.out[0], self.tile.block[0] // self.tile.across)

    @functools.cached_property
    def images(self) -> int:
        """Of a block: several, if they are small."""
        if self.spec.scaled or (self.down, self.tile.across) != self.out:
            return 1
        return min(self.batch, self.tile.block[0] // prod(self.out))

    @functools.cached_property
    def gap(self) -> int:
        """From pixel to pixel of the map that are copied: a stride without a window leaves some out."""
        return self.spec.stride if self.spec.kernel_size == 1 else 1

    @functools.cached_property
    def spacing(self) -> int:
        """From window to window in shared memory."""
        return self.spec.stride // self.gap

    @functools.cached_property
    def window(self) -> tuple[int, int]:
        """Rows and columns of an image's part in shared memory."""
        return self._covered(self.down), self._covered(self.tile.across)

    def _covered(self, pixels: int) -> int:
        return (pixels - 1) * self.spacing + self.spec.kernel_size

    @functools.cached_property
    def pitch(self) -> int:
        """Vectors from pixel to pixel there: a warp's pixels then lie in all banks."""
        groups = self.tile.groups
        if groups < STEP_VECTORS["float16"]:
            return groups
        fit = (one for one in range(groups, groups + BANK_VECTORS) if one * self.spacing % BANK_VECTORS == 4)
        return next(fit, groups)

    @functools.cached_property
    def tiles(self) -> tuple[int, int]:
        """Of an image."""
        return -(-self.out[0] // self.down), -(-self.out[1] // self.tile.across)

    @functools.cached_property
    def vectors(self) -> int:
        """Of a pixel's channels."""
        return self.spec.in_channels // values_of(self.spec)

    @functools.cached_property
    def stages(self) -> int:
        return -(-self.vectors // (self.tile.groups * self.tile.cluster))

    @functools.cached_property
    def stage_steps(self) -> int:
        """Of a warp."""
        vectors = self.spec.kernel_size**2 * self.tile.groups
        return -(-vectors // (self.tile.warps_k * STEP_VECTORS[self.spec.dtype]))

    @functools.cached_property
    def steps(self) -> int:
        """Of a warp, in all stages."""
        return self.stages * self.stage_steps

    @functools.cached_property
    def stage_bytes(self) -> int:
        """Of shared memory."""
        return self.images * prod(self.window) * self.pitch * VECTOR_BYTES

    @functools.cached_property
    def shared_bytes(self) -> int:
        return max(min(2, self.stages) * self.stage_bytes, self.tile.part_bytes)

    @functools.cached_property
    def registers(self) -> int:
        return registers(self.spec, self.tile, self.steps, 1)

    @functools.cached_property
    def launch(self) -> Launch:
        blocks = -(-self.batch // self.images) * prod(self.tiles)
        columns = -(-self.spec.out_channels // self.tile.block[1])
        return Launch((blocks, columns, self.tile.cluster), WARP * self.tile.warps, self.tile.cluster)


def accepts(spec: KernelSpec) -> bool:
    """Convolutions over all channels whose pixels are whole 16 byte reads."""
    is_full = spec.kind == "conv" and spec.groups == 1 and not spec.pooled
    return is_full and is_float(spec) and whole_vectors(spec) and spec.kernel_size <= MAX_KERNEL


def tiles(spec: KernelSpec, gpu: GpuModel) -> Iterator[tuple[float, ConvTile]]:
    """Tiles with their expected microseconds."""
    is_loop = spec.kernel_size == spec.stride == 1  # sums that are split are for ``pointwise``
    splits = product((1,) if is_loop else WARPS, (1,) if is_loop or not gpu.has_clusters else CLUSTERS)
    vectors = spec.in_channels // values_of(spec)
    shapes = [
        (shape, warps_m, warps_n, _best_across(spec, shape[0] * warps_m))
        for shape, warps_m, warps_n in product(SHAPES[spec.dtype], WARPS, WARPS)
        if shape[1] * (warps_n - 1) < spec.out_channels
    ]
    for (warps_k, cluster), (shape, warps_m, warps_n, across) in product(splits, shapes):
        of_slice, offered = -(-vectors // cluster), 0
        for groups in dict.fromkeys((of_slice, *GROUPS)):
            cut = _Cut(spec, ConvTile(*shape, warps_m, warps_n, warps_k, cluster, across, groups))
            if cluster <= vectors and groups <= of_slice and offered < OFFERED_GROUPS and _is_possible(cut):
                offered += 1
                yield expected_us(cut, gpu), cut.tile


@functools.lru_cache(maxsize=256)
def _best_across(spec: KernelSpec, rows: int) -> int:
    """The width of a block's part of the map that needs fewest blocks of so many pixels, then fewest copies."""
    first = _Cut(spec, ConvTile(rows, 4, 1, 1, 1, 1, 1, 1))
    widest = min(first.out[1], rows)
    if first.is_list:
        return widest

    def cost(across: int) -> tuple[int, int]:
        cut = _Cut(spec, replace(first.tile, across=across))
        blocks = cut.launch.grid[0]
        return blocks, blocks * cut.images * prod(cut.window)

    return min((one for one in range(1, widest + 1) if one in (1, 2, 4, 7, 8, 14, 16, 28, 32, widest)), key=cost)


def _is_possible(cut: _Cut) -> bool:
    return fits(cut.spec, cut.tile, cut.registers, cut.shared_bytes) and cut.launch.grid[1] <= MAX_GRID


def suits(spec: KernelSpec, tile: ConvTile) -> bool:
    """Whether code can be made of a tile, and whether it fits a multiprocessor."""
    cut = _Cut(spec, tile)
    is_part = tile.across <= min(cut.out[1], tile.block[0]) and tile.groups * tile.cluster < cut.vectors + tile.cluster
    return is_part and _is_possible(cut)


def expected_us(cut: _Cut, gpu: GpuModel) -> float:
    """What a tile may take: trips to memory in turn, and the busiest multiprocessor's bytes, copies or products."""
    spec, tile, made = cut.spec, cut.tile, cut.launch
    copied = cut.images * prod(map(min, cut.window, cut.size)) * tile.groups * cut.stages
    copies = cut.images * prod(cut.window) * tile.groups * cut.stages * COPY_INSTRUCTIONS / WARP / SCHEDULERS
    work = max(work_cycles(spec, tile, cut.steps, copied * VECTOR_BYTES, gpu), copies)
    # What is left to wait for when a stage's products are done.
    late = (cut.stages - 1) * max(0, gpu.l2_cycles - cut.stage_steps * STEP_CYCLES)
    loop = cut.stages * BARRIER_CYCLES + cut.steps * STEP_CYCLES + late
    trips = PROLOGUE_CYCLES + 2 * gpu.l2_cycles + loop + reduction_cycles(tile, gpu)
    times = rounds(gpu, made, cut.registers, cut.shared_bytes)
    return gpu.us(times * trips + gpu.waves(prod(made.grid)) * work)


def pack(spec: KernelSpec, tile: ConvTile, constants: list[Array]) -> list[Array]:
    """Weights filled up with zeros, in the order of a warp's reads; the bias."""
    cut = _Cut(spec, tile)
    weight, *bias = constants
    taps, values, step = spec.kernel_size**2, values_of(spec), STEP_VECTORS[spec.dtype]
    depth = tile.cluster * cut.stages * tile.groups * values
    full = filled(spec, tile, weight.reshape(taps, spec.in_channels, spec.out_channels), depth)
    by_stage = full.reshape(taps, tile.cluster * cut.stages, tile.groups * values, -1).transpose(1, 0, 2, 3)
    matrix = by_stage.reshape(len(by_stage), taps * tile.groups * values, -1)
    missing = tile.warps_k * cut.stage_steps * step * values - matrix.shape[1]
    matrix = np.pad(matrix, ((0, 0), (0, missing), (0, 0)))
    of_warps = matrix.reshape(tile.cluster, cut.stages, tile.warps_k, -1, matrix.shape[2]).transpose(0, 2, 1, 3, 4)
    return packed(spec, of_warps.reshape(-1, matrix.shape[2]), bias)


def emit(spec: KernelSpec, tile: ConvTile) -> str:
    """CUDA C."""
    cut = _Cut(spec, tile)
    defines = matrix_defines(spec, tile, cut.steps) | {
        "SHARED_FLOATS": cut.shared_bytes // 4,
        "WINDOW": cut.stage_bytes // 4,
        "TILES": prod(cut.tiles),
        "TILES_X": cut.tiles[1],
        "IMAGES": cut.images,
        "TILE_Y": cut.down,
        "TILE_X": tile.across,
        "IN_ROWS": cut.window[0],
        "IN_COLUMNS": cut.window[1],
        "PITCH": cut.pitch,
        "GROUPS": tile.groups,
        "ALL_GROUPS": cut.vectors,
        "STAGES": cut.stages,
        "STAGE_STEPS": cut.stage_steps,
        "KERNEL": spec.kernel_size,
        "STRIDE": spec.stride,
        "SPACING": cut.spacing,
        "GAP": cut.gap,
        "PADDING": f"({spec.padding})",
        "BATCH": cut.batch,
        "SIZE_Y": cut.size[0],
        "SIZE_X": cut.size[1],
        "OUT_Y": cut.out[0],
        "OUT_X": cut.out[1],
    }
    return function(spec, cut.launch, arguments(spec), defines, body(spec.dtype))


CONV = CudaTemplate(
    ConvTile,
    accepts,
    tiles,
    emit,
    lambda spec, tile: _Cut(spec, tile).launch,
    pack,
    suits=suits,
)
