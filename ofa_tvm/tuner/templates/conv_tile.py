"""Register tiles for convolutions over NHWC maps with panel-packed weights.

A tile of ``pixels`` x ``channels`` outputs is accumulated in registers over the whole reduction; each step loads
``channels`` weights from one contiguous panel and broadcasts one input per pixel; bias, residual and activation
are applied before the tile is written. The idea is that of every fast matrix product (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", ACM TOMS 2008).
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
    tiles,
    vectorize,
    widest_lanes,
)


def candidates(spec: KernelSpec, features: CpuFeatures) -> list[Parameters]:
    """Tiles that fit the registers, ranked by the cycles that their inner loop takes for one output."""
    if spec.kind != "conv":
        return []
    ranked = []
    for channels in divisors(spec.out_channels):
        lanes = widest_lanes(channels, features)
        vectors = channels // lanes
        if lanes < MIN_LANES or vectors > features.registers // 2:
            continue
        for rows, columns in tiles(spec.out_size):
            pixels = rows * columns
            accumulators = pixels * vectors
            if accumulators + vectors + 1 > features.registers:
                continue
            cycles = max(accumulators / PER_CYCLE, (pixels + vectors) / PER_CYCLE, FMA_LATENCY_CYCLES)
            ranked.append((cycles / (pixels * channels), -pixels * channels, rows, columns, channels, lanes))
    ranked.sort()
    return [
        {"rows": rows, "columns": columns, "channels": channels, "lanes": lanes, "channel_outer": outer}
        for _, _, rows, columns, channels, lanes in ranked
        for outer in (0, 1)
    ]


def schedule(workload: Any, spec: KernelSpec, parameters: Parameters) -> Any:
    """The workload (an IRModule) scheduled with one tile."""
    from ofa_tvm.compiler.tvm_import import Schedule

    sch = Schedule(workload)
    conv, output = sch.get_sblock("conv"), sch.get_sblock("output")
    if spec.scaled:
        sch.compute_inline(sch.get_sblock("scaled"))
    n, y, x, c, ky, kx, rc = sch.get_loops(conv)
    y_outer, y_inner = sch.split(y, [None, parameters["rows"]])
    x_outer, x_inner = sch.split(x, [None, parameters["columns"]])
    c_outer, c_inner = sch.split(c, [None, parameters["channels"]])
    outer = [n, c_outer, y_outer, x_outer] if parameters["channel_outer"] else [n, y_outer, x_outer, c_outer]
    sch.reorder(*outer, ky, kx, rc, y_inner, x_inner, c_inner)
    sch.reverse_compute_at(output, outer[-1])
    if spec.padding:
        sch.compute_at(sch.get_sblock("padded"), y_outer)
    depth = len(outer)
    for loop in (y_inner, x_inner):
        sch.unroll(loop)
    vectorize(sch, c_inner, parameters["lanes"])
    finish_tile(sch, output, depth, parameters["lanes"])
    sch.parallel(sch.fuse(*outer[:2]))
    sch.decompose_reduction(conv, ky)
    return sch
