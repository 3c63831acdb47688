"""Depthwise convolutions on a GPU by default: a thread an element, where DLight makes a thread block of each."""

from __future__ import annotations

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_api.names import Schedule
from ofa_tvm.graph.kernel import KernelSpec

THREADS = 128


def schedule_depthwise(spec: KernelSpec) -> Schedule:
    """Threads along channels, so that reads coalesce; the window is unrolled and zeros are not written anywhere."""
    made = Schedule(kernel_workload(spec))
    output, summed = made.get_sblock("output"), made.get_sblock("conv")
    block, thread = made.split(made.fuse(*made.get_loops(output)), [None, THREADS])
    made.bind(block, "blockIdx.x")
    made.bind(thread, "threadIdx.x")
    made.compute_at(summed, thread)
    made.set_scope(summed, 0, "local")
    if spec.kernel_size > 1:
        made.compute_inline(made.get_sblock("padded"))
    for loop in made.get_loops(summed)[-2:]:
        made.unroll(loop)
    return made
