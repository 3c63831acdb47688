"""Default schedule of depthwise convolutions on a GPU: one thread per element, where DLight makes a thread block."""

from __future__ import annotations

from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload
from ofa_tvm.compiler.tvm_api.names import Schedule
from ofa_tvm.graph.kernel import KernelSpec

THREADS = 128


def schedule_depthwise(spec: KernelSpec) -> Schedule:
    """Threads along channels, so that reads coalesce; the window is unrolled and zeros are not written anywhere."""
    trace = Schedule(kernel_workload(spec))
    output, summed = trace.get_sblock("output"), trace.get_sblock("conv")
    block, thread = trace.split(trace.fuse(*trace.get_loops(output)), [None, THREADS])
    trace.bind(block, "blockIdx.x")
    trace.bind(thread, "threadIdx.x")
    trace.compute_at(summed, thread)
    trace.set_scope(summed, 0, "local")
    if spec.kernel_size > 1:
        trace.compute_inline(trace.get_sblock("padded"))
    for loop in trace.get_loops(summed)[-2:]:
        trace.unroll(loop)
    return trace
