"""What depthwise convolutions and those of images share: blocks that copy their part of the map with its border.

A block asks for its weights, waits for the kernel before it, and copies what it needs of the map into shared memory at
once, with zeros beside the map: one trip to the L2 cache, and no bounds in the arithmetic. A thread has some channels
(16 bytes of the map) of some pixels beside each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ofa_tvm.compiler.cuda.emit.gpu_model import GpuModel
from ofa_tvm.compiler.cuda.emit.parts import (
    BARRIER_CYCLES,
    MAX_GRID,
    PROLOGUE_CYCLES,
    REGISTER_FILE,
    VECTOR_BYTES,
    busy_cycles,
    padded,
    rounds,
    values_of,
    vector_defines,
    whole_warps,
)
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES, WARP, Array, Launch
from ofa_tvm.graph.kernel import KernelSpec

MAX_THREADS = 512
MAX_REGISTERS = 190
RUNS, ACROSS, ROWS = (1, 2, 4, 7), (1, 2, 4, 7, 14), (1, 2, 4, 7, 14)


@dataclass(frozen=True)
class WindowTile:
    """What a block of threads computes.

    Args:
        groups: vectors of channels.
        run: output pixels of a thread, beside each other.
        across: threads beside each other in a row.
        rows: output rows.
    """

    groups: int
    run: int
    across: int
    rows: int


@dataclass(frozen=True)
class WindowCut(ABC):
    """The sizes that follow from a kernel and a tile."""

    spec: KernelSpec
    tile: WindowTile

    @property
    @abstractmethod
    def taps(self) -> int:
        """Weights of an output channel."""

    @property
    @abstractmethod
    def window_floats(self) -> int:
        """Of the map's part in shared memory."""

    @property
    @abstractmethod
    def registers(self) -> int:
        """About so many of a thread."""

    @property
    def shared_bytes(self) -> int:
        """Of the map's part and the weights."""
        return 4 * (self.window_floats + self.taps * self.channels)

    @cached_property
    def channels(self) -> int:
        """Of a block."""
        return self.tile.groups * values_of(self.spec)

    @cached_property
    def columns(self) -> int:
        """Output pixels of a block in a row."""
        return self.tile.run * self.tile.across

    @cached_property
    def in_rows(self) -> int:
        """Of the map, for a block."""
        return (self.tile.rows - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def in_columns(self) -> int:
        """Of the map, for a block."""
        return (self.columns - 1) * self.spec.stride + self.spec.kernel_size

    @cached_property
    def tiles_x(self) -> int:
        """Blocks beside each other."""
        return -(-self.spec.out_size // self.columns)

    @cached_property
    def tiles(self) -> int:
        """Blocks that share a map's channels."""
        return self.tiles_x * -(-self.spec.out_size // self.tile.rows)

    @cached_property
    def blocks_of_channels(self) -> int:
        """Blocks with the same pixels."""
        return -(-self.spec.out_channels // self.channels)

    @cached_property
    def launch(self) -> Launch:
        """Blocks of pixels, of channels, and images."""
        threads = whole_warps(self.tile.groups * self.tile.across * self.tile.rows)
        return Launch((self.tiles, self.blocks_of_channels, self.spec.batch), threads)

    @property
    def is_possible(self) -> bool:
        """Whether the tile covers the map with little beside it, and fits a multiprocessor."""
        out, tile, launch = self.spec.out_size, self.tile, self.launch
        is_covered = tile.run <= out and (tile.across - 1) * tile.run < out and tile.rows <= out
        fits = self.shared_bytes <= MAX_SHARED_BYTES and self.registers * launch.threads <= REGISTER_FILE
        is_grid = max(launch.grid[1:]) <= MAX_GRID and launch.threads <= MAX_THREADS
        return is_covered and fits and is_grid and self.registers <= MAX_REGISTERS

    def defines(self) -> dict[str, object]:
        """Macros of ``START``, ``COPIED`` and ``END``."""
        spec, tile = self.spec, self.tile
        return vector_defines(spec) | {
            "GROUPS": tile.groups,
            "RUN": tile.run,
            "ACROSS": tile.across,
            "ROWS": tile.rows,
            "CHANNELS": self.channels,
            "COLUMNS": self.columns,
            "IN_ROWS": self.in_rows,
            "IN_COLUMNS": self.in_columns,
            "WINDOW": self.window_floats,
            "TAPS": self.taps,
            "TILES_X": self.tiles_x,
            "KERNEL": spec.kernel_size,
            "STRIDE": spec.stride,
            "PADDING": f"({spec.padding})",
            "SIZE": spec.in_size,
            "OUT": spec.out_size,
            "ALL_GROUPS": spec.out_channels // values_of(spec),
            "UNROLL": spec.kernel_size if spec.kernel_size <= 3 else 1,
            "BIAS": int(spec.bias),
            "RESIDUAL": int(spec.residual),
            "POOLED": int(spec.pooled),
        }

    def pack(self, constants: list[Array]) -> list[Array]:
        """Weights (..., channels) by block of channels, all as float32."""
        weight, *bias = constants
        wide = self.blocks_of_channels * self.channels
        blocks = padded(weight.reshape(self.taps, -1), self.taps, wide).reshape(self.taps, -1, self.channels)
        return [np.ascontiguousarray(blocks.transpose(1, 0, 2)), *(padded(one, wide) for one in bias)]

    def expected_us(
        self, gpu: GpuModel, read_bytes: float, instructions: float, shared_reads: float, more: float = 0
    ) -> float:
        """What the tile may take.

        Args:
            gpu: where.
            read_bytes: of a block from the L2 cache.
            instructions: of a thread.
            shared_reads: cycles in which a warp's reads of shared memory keep it busy.
            more: cycles at the end.
        """
        launch, tile = self.launch, self.tile
        blocks, read = gpu.waves(prod(launch.grid)), read_bytes / gpu.l2_bytes
        outputs = min(tile.rows * self.columns, self.spec.out_size**2) * tile.groups
        traffic = read + outputs * VECTOR_BYTES / gpu.l2_bytes
        trips = rounds(gpu, launch, self.registers, self.shared_bytes) * (gpu.l2_cycles + BARRIER_CYCLES)
        reads = blocks * launch.threads / WARP * shared_reads
        busy = max((blocks - 1) * traffic, busy_cycles(gpu, launch, instructions), reads)
        return gpu.us(PROLOGUE_CYCLES + trips + read + busy + more)


def window_tiles(spec: KernelSpec, groups: Iterable[int]) -> Iterator[WindowTile]:
    """Tiles with so many vectors of channels, possible or not."""
    for of_channels in groups:
        for run in RUNS:
            for across in sorted({*ACROSS, -(-spec.out_size // run)}):
                for rows in ROWS:
                    yield WindowTile(of_channels, run, across, rows)


START = r"""
  SHARED(window, WINDOW);
  SHARED(taps, TAPS * CHANNELS);
  const int group = threadIdx.x % GROUPS, row = threadIdx.x / GROUPS % ROWS, run = threadIdx.x / (GROUPS * ROWS);
  const int image = blockIdx.z, first_group = blockIdx.y * GROUPS, own_group = first_group + group;
  const int first_y = blockIdx.x / TILES_X * ROWS, first_x = blockIdx.x % TILES_X * COLUMNS;
  for (int at = threadIdx.x; at < TAPS * CHANNELS / 4; at += THREADS)
    copy_async(taps + at * 4, weights + blockIdx.y * (TAPS * CHANNELS / 4) + at, true);
  float total[RUN][VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; v += 4) {
#if BIAS
    unpack(__ldg(bias + (own_group * VALUES + v) / 4), total[0] + v);
#else
    total[0][v] = total[0][v + 1] = total[0][v + 2] = total[0][v + 3] = 0.f;
#endif
  }
#pragma unroll
  for (int pixel = 1; pixel < RUN; ++pixel)
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] = total[0][v];
  let_next_start();
  wait_for_inputs();
"""
"""Then the map's part is copied into ``window``."""

COPIED = r"""
  const int y = first_y + row;
  const bool is_own = run < ACROSS && y < OUT && own_group < ALL_GROUPS;
  const int first_place = ((image * OUT + y) * OUT + first_x + run * RUN) * ALL_GROUPS + own_group;
#if RESIDUAL
  VECTOR early[RUN];
#pragma unroll
  for (int pixel = 0; pixel < RUN; ++pixel)
    early[pixel] =
        read_map(residual + (is_own && first_x + run * RUN + pixel < OUT ? first_place + pixel * ALL_GROUPS : 0));
#endif
  await_copies();
  __syncthreads();
  constexpr int at_once = UNROLL; /* a pragma knows no macros */
"""
"""Then a thread adds its products to ``total[RUN][VALUES]``, if ``is_own``."""

END = r"""
#if POOLED
  float added[VALUES];
#pragma unroll
  for (int v = 0; v < VALUES; ++v) added[v] = 0.f;
#endif
#pragma unroll
  for (int pixel = 0; pixel < RUN; ++pixel) {
    if (!is_own || first_x + run * RUN + pixel >= OUT) continue;
#if RESIDUAL
    float more[VALUES];
    unpack(early[pixel], more);
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] += more[v];
#endif
#pragma unroll
    for (int v = 0; v < VALUES; ++v) total[pixel][v] = activated(total[pixel][v]);
#if POOLED
#pragma unroll
    for (int v = 0; v < VALUES; ++v) added[v] += total[pixel][v];
#endif
    store(output + first_place + pixel * ALL_GROUPS, total[pixel]);
  }
"""
