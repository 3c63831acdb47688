"""Convolutions of maps for GPUs at the sizes that networks have, their code run on a CPU."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from emulated_cuda import assert_all_compute

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.conv import CONV
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.graph.kernel import KernelSpec

SHAPES = [
    KernelSpec("conv", 512, 512, 7, 3, activation="relu", bias=True, residual=True),
    KernelSpec("conv", 128, 128, 28, 3, 2, activation="relu", bias=True),
    KernelSpec("conv", 64, 128, 28, 1, 2, bias=True),
    KernelSpec("conv", 24, 96, 28, 5, activation="hard_swish", bias=True),
    KernelSpec("conv", 16, 64, 28, 5, 2, activation="relu6", bias=True, shifted=True),
    KernelSpec("conv", 32, 64, 7, 3, activation="relu", bias=True, batch=5),
    KernelSpec("conv", 48, 24, 9, 3, scaled=True, residual=True, batch=2),
    KernelSpec("conv", 160, 320, 7, activation="hard_swish", bias=True, batch=16),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["best", "without clusters", "many rows", "many stages"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("spec", SHAPES, ids=lambda spec: spec.key)
def test_the_code_computes_what_the_reference_does(spec, dtype, which, tmp_path):
    spec = replace(spec, dtype=dtype, float_vectors=dtype == "float16")
    ranked = sorted(CONV.tiles(spec, GPUS["sm_90"]), key=lambda pair: pair[0])
    beside = {
        "best": lambda tile: 0,
        "without clusters": lambda tile: tile.cluster,
        "many rows": lambda tile: not 64 <= tile.block[0] <= 128,
        "many stages": lambda tile: tile.groups * tile.cluster,
    }
    tile = min((tile for _, tile in ranked), key=beside[which])
    assert_all_compute([EmittedCuda(spec, {"template": "cuda_conv", "parameters": asdict(tile)})], tmp_path)
