"""What of a GPU decides which tile of a kernel is the best guess. Constants are guesses until a GPU was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GpuModel:
    """A GPU, as far as small kernels feel it: they wait for memory and for each other, not for arithmetic.

    Args:
        architecture: ``sm_90``, say.
        multiprocessors: how many there are.
        ghz: their clock.
        l2_cycles: from a read that the L2 cache answers to its value.
        l2_bytes: bytes that a multiprocessor reads from the L2 cache in a cycle, while all do.
        mma_cycles: an ``m16n8k16`` product of float16 numbers on a multiprocessor whose tensor cores are all busy.
        fma_lanes: float32 multiply-adds of a multiprocessor in a cycle.
        start_us: from the last store of a kernel to the first instruction of the next one in a CUDA graph.
        cluster_cycles: two barriers of a cluster and a read of another block's shared memory; 0 without clusters.
    """

    architecture: str
    multiprocessors: int
    ghz: float
    l2_cycles: int = 280
    l2_bytes: float = 32.0
    mma_cycles: float = 2.0
    fma_lanes: int = 128
    start_us: float = 1.4
    cluster_cycles: int = 0

    @property
    def has_clusters(self) -> bool:
        """Whether thread blocks of a cluster read each other's shared memory."""
        return self.cluster_cycles > 0

    def us(self, cycles: float) -> float:
        """Microseconds of a kernel that works for so many cycles, its start included."""
        return self.start_us + cycles / self.ghz / 1000

    def waves(self, blocks: int) -> int:
        """Blocks of the busiest multiprocessor."""
        return -(-blocks // self.multiprocessors)


GPUS = {
    "sm_80": GpuModel("sm_80", 108, 1.41, fma_lanes=64),
    "sm_86": GpuModel("sm_86", 82, 1.70),
    "sm_87": GpuModel("sm_87", 16, 1.30),
    "sm_89": GpuModel("sm_89", 128, 2.20),
    "sm_90": GpuModel("sm_90", 132, 1.755, cluster_cycles=600),
}
"""Of each architecture the GPU that is usual: A100, RTX 3090, Orin, RTX 4090, H100."""


def gpu_model(architecture: str) -> GpuModel:
    """The model of an architecture; of one that is not known, of the nearest older one."""
    known = [name for name in GPUS if int(name[3:]) <= int(architecture[3:])]
    return GPUS[max(known, key=lambda name: int(name[3:]), default="sm_80")]
