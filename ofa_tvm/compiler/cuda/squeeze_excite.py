"""Squeeze-excite on a GPU in one launch or two, for which TVM's rules make four, or none at all.

A thread block computes the gates of one image: its sums, means and hidden channels stay in shared memory. Threads along
x are neighbouring channels, so reads of maps and weights coalesce; threads along y share each sum.
"""

from __future__ import annotations

from collections.abc import Iterator

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.scheduled.trace_json import record_to_json
from ofa_tvm.compiler.tvm_api.names import Schedule, Target
from ofa_tvm.graph.kernel import KernelSpec

THREADS = ((32, 8), (32, 16), (32, 32), (64, 16), (128, 8))
"""Threads of a block along x and y."""
DEFAULT_THREADS = (32, 16)
MAX_MAP_BYTES = 64 * 1024
"""Bytes of an image's map that one block reads by default. A guess: beyond, a launch for the means costs less."""


def schedule_squeeze_excite(spec: KernelSpec, threads: tuple[int, int], pooled_apart: bool = False) -> Schedule:
    """A scheduled kernel.

    Args:
        spec: a ``squeeze_excite``.
        threads: of a block along channels and along sums.
        pooled_apart: compute the means in a launch of their own, which spreads the map over the GPU.
    """
    trace = Schedule(kernel_workload(spec))
    channels, parts = threads

    def tiles(block: str) -> object:
        tile, lane = trace.split(trace.get_loops(trace.get_sblock(block))[-1], [None, channels])
        trace.bind(lane, "threadIdx.x")
        return tile

    def sum_by_threads(block: str, tile: object, reductions: int) -> None:
        summed = trace.get_sblock(block)
        trace.compute_at(summed, tile)
        trace.set_scope(summed, 0, "local")
        *_, channel = trace.get_loops(summed)[:-reductions]
        along = trace.fuse(*trace.get_loops(summed)[-reductions:])
        # Both are split even where one piece remains: threads without a channel must be kept from reading.
        trace.bind(trace.split(channel, [None, channels])[1], "threadIdx.x")
        trace.bind(trace.split(along, [None, parts])[1], "threadIdx.y")

    image = trace.get_loops(trace.get_sblock("output"))[0]
    trace.bind(image, "blockIdx.x")
    sum_by_threads("expand", tiles("output"), 1)
    trace.compute_at(trace.get_sblock("hidden"), image)
    trace.set_scope(trace.get_sblock("hidden"), 0, "shared")
    sum_by_threads("reduce", tiles("hidden"), 1)
    if pooled_apart:
        trace.bind(trace.get_loops(trace.get_sblock("mean"))[0], "blockIdx.y")
        tile = tiles("mean")
        trace.bind(tile, "blockIdx.x")
    else:
        trace.compute_at(trace.get_sblock("mean"), image)
        trace.set_scope(trace.get_sblock("mean"), 0, "shared")
        tile = tiles("mean")
    sum_by_threads("sum", tile, 2)
    return trace


def default_squeeze_excite(spec: KernelSpec) -> Schedule:
    """One launch where the map is small, else two. TVM's own rules make four, whose sums wait for global memory."""
    map_bytes = spec.in_channels * spec.in_size**2 * (4 if spec.dtype == "float32" else 2)
    return schedule_squeeze_excite(spec, DEFAULT_THREADS, pooled_apart=map_bytes > MAX_MAP_BYTES)


def squeeze_excite_traces(spec: KernelSpec, target: Target) -> Iterator[dict[str, object]]:
    """All schedules of a kernel, in the form of a candidate."""
    for pooled_apart in (False, True):
        for threads in THREADS:
            trace = schedule_squeeze_excite(spec, threads, pooled_apart).trace
            yield {"trace": record_to_json(trace, spec, [0.0], target)[0]}
