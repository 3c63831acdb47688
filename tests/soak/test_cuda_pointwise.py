"""1x1 convolutions for GPUs at the sizes that networks have, their code run on a CPU."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from emulated_cuda import assert_all_compute

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.compiler.cuda.emit.pointwise import POINTWISE
from ofa_tvm.graph.kernel import KernelSpec

SHAPES = [
    KernelSpec("conv", 960, 160, 7, bias=True, scaled=True, residual=True),
    KernelSpec("conv", 672, 112, 14, bias=True, scaled=True),
    KernelSpec("conv", 240, 40, 28, bias=True, residual=True),
    KernelSpec("conv", 112, 672, 14, activation="hard_swish", bias=True),
    KernelSpec("conv", 160, 960, 7, activation="hard_swish", bias=True, pooled=True),
    KernelSpec("conv", 24, 40, 9, activation="relu", bias=True, scaled=True, batch=3),
    KernelSpec("conv", 40, 72, 5, activation="silu", residual=True, batch=3),
    KernelSpec("conv", 72, 24, 11, activation="gelu", residual=True, pooled=True, batch=3),
    KernelSpec("conv", 960, 320, 1, activation="hard_swish", bias=True),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["best", "without clusters", "many rows"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("spec", SHAPES, ids=lambda spec: spec.key)
def test_the_code_computes_what_the_reference_does(spec, dtype, which, tmp_path):
    spec = replace(spec, dtype=dtype, float_vectors=dtype == "float16")
    ranked = sorted(POINTWISE.tiles(spec, GPUS["sm_90"]), key=lambda pair: pair[0])
    wanted = {
        "best": lambda tile: True,
        "without clusters": lambda tile: tile.cluster == 1,
        "many rows": lambda tile: 64 <= tile.block[0] <= 128,
    }
    tile = next(tile for _, tile in ranked if wanted[which](tile))
    assert_all_compute([EmittedCuda(spec, {"template": "cuda_pointwise", "parameters": asdict(tile)})], tmp_path)
