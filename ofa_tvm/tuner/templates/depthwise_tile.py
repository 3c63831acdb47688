"""Register tiles for depthwise convolutions over NHWC maps.

A tile of ``columns`` pixels of one row and ``channels`` channels is accumulated in registers; neighbouring pixels
share the inputs that their windows have in common. The map's padded slice for the tile's channels is copied once.
"""

from __future__ import annotations

from typing import Any

from ofa_tvm.compiler.cpu_features import CpuFeatures
from ofa_tvm.kernels import KernelSpec
from ofa_tvm.tuner.templates.tiling import (
    FMA_LATENCY_CYCLES,
    MIN_LANES,
    PER_CYCLE,
    Parameters,
    divisors,
    finish_tile,
    vectorize,
    widest_lanes,
)

MAX_VECTORS = 4


def candidates(spec: KernelSpec, features: CpuFeatures) -> list[Parameters]:
    """Tiles that fit the registers, ranked by the cycles that their inner loop takes for one output."""
    if spec.kind != "depthwise":
        return []
    ranked = []
    k = spec.kernel_size
    for channels in divisors(spec.out_channels):
        lanes = widest_lanes(channels, features)
        vectors = channels // lanes
        if lanes < MIN_LANES or vectors > MAX_VECTORS:
            continue
        for columns in divisors(spec.out_size):
            accumulators = columns * vectors
            if accumulators + vectors + 1 > features.registers:
                continue
            loads = ((columns - 1) * spec.stride + k + k) * vectors
            cycles = k * max(accumulators * k / PER_CYCLE, loads / PER_CYCLE, FMA_LATENCY_CYCLES)
            ranked.append((cycles / (columns * channels), -columns, columns, channels, lanes))
    ranked.sort()
    return [
        {"columns": columns, "channels": channels, "lanes": lanes, "copy_rows": copy_rows}
        for _, _, columns, channels, lanes in ranked
        for copy_rows in (0, 1)
    ]


def schedule(workload: Any, spec: KernelSpec, parameters: Parameters) -> Any:
    """The workload (an IRModule) scheduled with one tile.

    ``copy_rows`` chooses what is copied at once: the padded rows of one output row (1) or the whole map (0).
    """
    from ofa_tvm.compiler.tvm_import import Schedule

    sch = Schedule(workload)
    conv, output, padded = (sch.get_sblock(name) for name in ("conv", "output", "padded"))
    n, y, x, c, ky, kx = sch.get_loops(conv)
    x_outer, x_inner = sch.split(x, [None, parameters["columns"]])
    c_outer, c_inner = sch.split(c, [None, parameters["channels"]])
    sch.reorder(n, c_outer, y, x_outer, ky, kx, x_inner, c_inner)
    sch.reverse_compute_at(output, x_outer)
    sch.compute_at(padded, y if parameters["copy_rows"] else c_outer)
    vectorize(sch, sch.get_loops(padded)[-1], parameters["lanes"])
    sch.unroll(kx)
    sch.unroll(x_inner)
    vectorize(sch, c_inner, parameters["lanes"])
    finish_tile(sch, output, 4, parameters["lanes"])
    sch.parallel(sch.fuse(n, c_outer))
    sch.decompose_reduction(conv, ky)
    return sch
