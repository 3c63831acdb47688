"""The tiles of 1x1 convolutions on GPUs: which are offered, how they rank, which a damaged log may not have."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from ofa_tvm.compiler.cuda.emit import EmittedCuda, candidates
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.compiler.cuda.emit.matrix import MatrixTile
from ofa_tvm.compiler.cuda.emit.pointwise import POINTWISE
from ofa_tvm.compiler.cuda.emit.template import MAX_CANDIDATES
from ofa_tvm.graph.kernel import KernelSpec

PROJECT = KernelSpec("conv", 960, 160, 7, bias=True, scaled=True, residual=True)
HALF = replace(PROJECT, dtype="float16", float_vectors=True)
POOLED = KernelSpec("conv", 160, 960, 7, activation="hard_swish", bias=True, pooled=True)
TILE = MatrixTile(16, 16, 2, 2, 4, 1)


@pytest.mark.parametrize(
    ("spec", "is_accepted"),
    [
        (PROJECT, True),
        (HALF, True),
        (POOLED, True),
        (replace(HALF, float_vectors=False), False),
        (replace(PROJECT, dtype="int8"), False),
        (replace(PROJECT, kernel_size=3), False),
        (replace(PROJECT, stride=2), False),
        (replace(PROJECT, groups=2), False),
        (replace(PROJECT, kind="depthwise", out_channels=960), False),
        (replace(PROJECT, in_channels=4), True),
        (replace(HALF, in_channels=4), False),
        (replace(PROJECT, in_channels=6), False),
        (replace(PROJECT, out_channels=6), False),
    ],
)
def test_what_it_computes(spec, is_accepted):
    assert POINTWISE.accepts(spec) == is_accepted


@pytest.mark.seconds(4)
@pytest.mark.parametrize("architecture", list(GPUS))
def test_every_offered_tile_suits_and_is_launched_whole(architecture):
    gpu = GPUS[architecture]
    for spec in (PROJECT, HALF, POOLED, replace(HALF, in_channels=24, out_channels=40, batch=3)):
        offered = list(POINTWISE.tiles(spec, gpu))
        assert len(offered) > 50
        for us, tile in offered:
            launch = POINTWISE.launch(spec, tile)
            rows, columns = tile.block
            assert launch.cluster == tile.cluster == launch.grid[2]
            assert launch.grid[1] * columns >= spec.out_channels
            assert launch.grid[0] * rows >= spec.batch * spec.in_size**2 or spec.pooled
            assert POINTWISE.suits(spec, tile)
            assert gpu.start_us < us < 1000
        assert any(tile.cluster > 1 for _, tile in offered) == (gpu.has_clusters and not spec.pooled)


def test_the_sum_is_split_where_the_map_is_small():
    best = candidates(HALF, GPUS["sm_90"])[0]["parameters"]
    assert best["warps_k"] * best["cluster"] > 8
    large = candidates(replace(HALF, in_size=112, in_channels=16, scaled=False), GPUS["sm_90"])[0]["parameters"]
    assert large["cluster"] == 1


@pytest.mark.parametrize("spec", [PROJECT, HALF], ids=lambda spec: spec.dtype)
def test_large_batches_are_offered_many_rows(spec):
    spec = replace(spec, batch=64)
    ranked = sorted(POINTWISE.tiles(spec, GPUS["sm_90"]), key=lambda pair: pair[0])[:MAX_CANDIDATES]
    offered = [tile.block[0] for _, tile in ranked]
    assert any(64 <= rows <= 128 for rows in offered)


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": 24},
        {"columns": 12},
        {"warps_k": 0},
        {"warps_k": 64},
        {"warps_m": -1},
        {"warps_n": 2.5},
        {"cluster": 3},
        {"cluster": 16},
        {"rows": "many"},
        {"lanes": 8},
    ],
    ids=str,
)
def test_a_damaged_tile_is_refused(damage):
    good = asdict(TILE)
    EmittedCuda(HALF, {"template": "cuda_pointwise", "parameters": good})
    with pytest.raises(ValueError, match=HALF.key):
        EmittedCuda(HALF, {"template": "cuda_pointwise", "parameters": good | damage})


@pytest.mark.parametrize("change", [{"cluster": 2}, {"warps_n": 3}], ids=str)
def test_sums_of_a_map_are_those_of_one_block_with_whole_columns(change):
    spec = replace(POOLED, dtype="float16", float_vectors=True)
    tile = replace(TILE, warps_k=2)
    assert POINTWISE.suits(spec, tile)
    assert not POINTWISE.suits(spec, replace(tile, **change))
    assert POINTWISE.suits(HALF, replace(tile, **change))


def test_shared_memory_is_what_a_block_may_have_without_asking():
    spec = replace(HALF, in_channels=256)
    assert POINTWISE.suits(spec, MatrixTile(32, 32, 2, 1, 4, 1))
    assert not POINTWISE.suits(spec, MatrixTile(32, 32, 2, 1, 8, 1)), "8 x 64 x 40 sums"


def test_constants_are_filled_up_with_zeros_in_the_order_of_lanes():
    spec = KernelSpec("conv", 24, 8, 2, bias=True, dtype="float16", float_vectors=True)
    weight = np.arange(24 * 8, dtype=np.float32).reshape(1, 1, 24, 8)
    tile = MatrixTile(16, 16, 1, 1, 1, 1)
    packed, bias = EmittedCuda(spec, {"template": "cuda_pointwise", "parameters": asdict(tile)}).pack(
        [weight, np.ones(8)]
    )
    assert [packed.dtype, bias.dtype] == ["float16", "float32"]
    chunk = packed.reshape(2, 8, 4, 8)  # panel, column, quarter, channel
    np.testing.assert_array_equal(chunk[0, 5, 1], weight[0, 0, 8:16, 5])
    assert not chunk[1].any(), "columns behind the last one"
    assert not chunk[:, :, 3].any(), "channels behind the last one"
