"""Sums of a map's channels, where no kernel before could give them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ofa_tvm.compiler.cpu.emit.cpu_features import CpuFeatures
from ofa_tvm.compiler.cpu.emit.template import Template, as_they_are, is_float, panel_widths
from ofa_tvm.compiler.cpu.emit.vector_ir import (
    FLOAT,
    Accumulators,
    Expr,
    PrimFunc,
    blocks,
    kernel,
    load,
    number,
    store,
    typed_arguments,
)
from ofa_tvm.compiler.tvm_api.names import T
from ofa_tvm.graph.kernel import KernelSpec


@dataclass(frozen=True)
class PoolTile:
    """Channels that are added up at a time."""

    channels: int


def emit(spec: KernelSpec, tile: PoolTile, features: CpuFeatures) -> PrimFunc:
    """The ``PrimFunc``."""
    channels, lanes = spec.in_channels, features.lanes
    with kernel(spec.symbol) as finished:
        share, (input_map, output) = typed_arguments(
            features.cores, input_map=(spec.input_type.dtype, spec.in_size**2 * channels), output=(FLOAT, channels)
        )

        def some_channels(channel: Expr, width: int) -> None:
            registers = Accumulators(1, width, lanes)
            registers.start(None, number(0))
            with T.serial(0, spec.in_size**2) as pixel:
                for vector in registers.vectors:
                    value = load(input_map, pixel * channels + channel + vector.offset, vector.lanes)
                    registers.add(0, vector, value)
            for vector in registers.vectors:
                store(output, registers.value(0, vector), channel + vector.offset, vector.lanes)

        blocks(channels, tile.channels, some_channels, share)
    return finished()


def pool_tiles(spec: KernelSpec, features: CpuFeatures) -> Iterator[tuple[float, PoolTile]]:
    """Wide tiles first."""
    for channels in panel_widths(spec.in_channels, features) or [spec.in_channels]:
        yield -channels, PoolTile(channels)


POOL = Template(PoolTile, lambda spec: spec.kind == "pool" and is_float(spec), pool_tiles, emit, as_they_are)
