"""Which source of candidates a target has: ranked tiles of templates, or DLight and MetaSchedule on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.loop import CandidateSource


def candidate_sources(
    target: TargetSpec, kernels: Mapping[str, KernelSpec], log: TuningLog, transfer: bool, seed: int = 0
) -> Callable[[KernelSpec], CandidateSource]:
    """What makes the candidate source of each kernel.

    Args:
        target: what is tuned for.
        kernels: all kernels of the run, by key.
        log: the target's log.
        transfer: try winners of other logs and of similar kernels, too.
        seed: of a search by evolution.
    """
    if target.is_gpu and not target.has_templates:
        donors = log.donors() if transfer else {}
        from ofa_tvm.tuner.trace_candidates import TraceSources

        return TraceSources(target.attributes, log.folder, donors, log.tried, seed)
    from ofa_tvm.tuner.tile_candidates import Sources
    from ofa_tvm.tuner.tiles import CpuTiles, CudaTiles

    tiles = CudaTiles(target.attributes) if target.is_gpu else CpuTiles(target.attributes)
    donors = log.donors(tiles.unlike) if transfer else {}
    return Sources(tiles, kernels, log.kernels, donors, log.tried, transfer)
