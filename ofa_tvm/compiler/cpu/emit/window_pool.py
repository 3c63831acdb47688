"""The largest value, or the mean, of the windows of a map."""

from __future__ import annotations

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.pool import PoolTile, pool_tiles
from ofa_tvm.compiler.cpu.emit.template import Template, as_they_are, is_float
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    Accumulators,
    Expr,
    PrimFunc,
    blocks,
    constant,
    kernel,
    load,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.cpu.emit.window import taps, tiles_of_row, window_rows
from ofa_tvm.graph.kernel import KernelSpec


def emit(spec: KernelSpec, tile: PoolTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    channels, lanes, is_largest = spec.in_channels, features.lanes, spec.kind == "max_pool"
    with kernel(spec.symbol) as finished:
        share, (input_map, output) = typed_arguments(
            features.cores,
            input_map=(spec.input_type.dtype, spec.in_size**2 * channels),
            output=(spec.map_type, spec.out_size**2 * channels),
        )

        def one_pixel(y: Expr, x: int | Expr, channel: Expr, width: int) -> None:
            pooled = Accumulators(1, width, lanes)
            pooled.fill(-3.4e38 if is_largest else 0.0)
            with window_rows(spec, y) as ky:
                row = (y * spec.stride - spec.padding + ky) * spec.in_size
                for kx in range(spec.kernel_size):
                    for _, column in taps(spec, x, 1, kx):
                        for vector in pooled.vectors:
                            at = (row + column) * channels + channel + vector.offset
                            value = load(input_map, at, vector.lanes)
                            (pooled.raise_to if is_largest else pooled.add)(0, vector, value)
            for vector in pooled.vectors:
                value = pooled.value(0, vector)
                if not is_largest:
                    value = value * constant(1 / spec.kernel_size**2, vector.lanes)
                store(output, value, (y * spec.out_size + x) * channels + channel + vector.offset, vector.lanes)

        def one_row(y: Expr) -> None:
            def one_tile(x: int | Expr, _: int) -> None:
                blocks(channels, tile.channels, lambda channel, width: one_pixel(y, x, channel, width))

            tiles_of_row(spec, 1, one_tile)

        blocks(spec.out_size, 1, lambda y, _: one_row(y), share)
    return finished()


WINDOW_POOL = Template(
    PoolTile,
    lambda spec: spec.kind in ("max_pool", "average_pool") and spec.activation == "none" and is_float(spec),
    pool_tiles,
    emit,
    as_they_are,
)
