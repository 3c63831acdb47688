"""The tiles of convolutions on GPUs: which are offered, how they rank, which a damaged log may not have."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from ofa_tvm.compiler.cuda.emit import EmittedCuda, candidates, default_schedule
from ofa_tvm.compiler.cuda.emit.conv import CONV, ConvTile
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.compiler.cuda.emit.template import MAX_SHARED_BYTES
from ofa_tvm.graph.kernel import KernelSpec

CONV3 = KernelSpec("conv", 256, 256, 14, 3, bias=True, activation="relu", residual=True)
HALF = replace(CONV3, dtype="float16", float_vectors=True)
EXPAND = KernelSpec("conv", 24, 96, 56, 5, 2, bias=True, activation="hard_swish")
POINTWISE = KernelSpec("conv", 112, 672, 14, bias=True, activation="hard_swish")
TILE = ConvTile(16, 16, 2, 2, 2, 1, 14, 4)


@pytest.mark.parametrize(
    ("spec", "is_accepted"),
    [
        (CONV3, True),
        (HALF, True),
        (POINTWISE, True),
        (replace(CONV3, scaled=True), True),
        (replace(CONV3, valid=True, residual=False), True),
        (replace(HALF, image=True), False),
        (replace(HALF, float_vectors=False), False),
        (replace(CONV3, groups=2), False),
        (replace(CONV3, pooled=True), False),
        (replace(CONV3, in_channels=6), False),
        (replace(HALF, in_channels=12), False),
        (replace(CONV3, kernel_size=11), False),
        (replace(CONV3, kind="depthwise"), False),
    ],
)
def test_what_it_computes(spec, is_accepted):
    assert CONV.accepts(spec) == is_accepted


@pytest.mark.seconds(4)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_every_offered_tile_suits_and_is_launched_whole(architecture):
    gpu = GPUS[architecture]
    for spec in (CONV3, replace(HALF, in_size=7, batch=64), EXPAND, replace(POINTWISE, batch=64)):
        offered = list(CONV.tiles(spec, gpu))
        assert len(offered) > 20
        for us, tile in offered:
            launch = CONV.launch(spec, tile)
            rows, columns = tile.block
            assert launch.grid[0] * rows >= spec.batch * spec.out_size**2
            assert launch.grid[1] * columns >= spec.out_channels
            assert launch.cluster == launch.grid[2] == tile.cluster
            assert CONV.suits(spec, tile)
            assert us > gpu.start_us
        assert any(tile.cluster > 1 for _, tile in offered) == (gpu.has_clusters and spec.kernel_size > 1)


def test_the_sum_is_split_where_the_map_is_small():
    small = default_schedule(replace(HALF, in_size=7, in_channels=512), GPUS["sm_90"])["parameters"]
    assert small["warps_k"] * small["cluster"] > 4
    large = default_schedule(replace(HALF, in_size=56, in_channels=64, batch=64), GPUS["sm_90"])["parameters"]
    assert (large["warps_k"], large["cluster"]) == (1, 1)


def test_a_block_has_several_images_where_they_are_small():
    found = [one["parameters"] for one in candidates(replace(HALF, in_size=7, batch=64), GPUS["sm_90"])]
    rows = [one["rows"] * one["warps_m"] for one in found if one["across"] == 7]
    assert max(rows) >= 2 * 49


@pytest.mark.parametrize("spec", [POINTWISE, replace(POINTWISE, in_channels=672, out_channels=112)], ids=str)
def test_1x1_convolutions_of_many_pixels_go_through_shared_memory(spec):
    assert default_schedule(spec, GPUS["sm_90"])["template"] == "cuda_pointwise"
    assert default_schedule(replace(spec, batch=64), GPUS["sm_90"])["template"] == "cuda_conv"


@pytest.mark.parametrize(
    "damage",
    [
        {"across": 15},
        {"across": 0},
        {"groups": 65},
        {"groups": 32},
        {"rows": 24},
        {"warps_k": 64},
        {"cluster": 3},
        {"groups": "all"},
        {"depth": 4},
    ],
    ids=str,
)
def test_a_damaged_tile_is_refused(damage):
    good = asdict(TILE)
    EmittedCuda(CONV3, {"template": "cuda_conv", "parameters": good})
    with pytest.raises(ValueError, match=CONV3.key):
        EmittedCuda(CONV3, {"template": "cuda_conv", "parameters": good | damage})


def test_shared_memory_is_what_a_block_may_have_without_asking():
    for _, tile in CONV.tiles(EXPAND, GPUS["sm_90"]):
        source = EmittedCuda(EXPAND, {"template": "cuda_conv", "parameters": asdict(tile)}).source
        assert 4 * int(source.partition("#define SHARED_FLOATS ")[2].split()[0]) <= MAX_SHARED_BYTES


def test_weights_lie_in_the_order_of_stages_taps_and_channels():
    spec = KernelSpec("conv", 16, 16, 6, 3)
    tile = ConvTile(16, 16, 1, 1, 2, 1, 4, 2)  # two stages of two vectors, whose 18 steps two warps share
    weight = np.random.default_rng(0).standard_normal((3, 3, 16, 16), np.float32)
    (packed,) = EmittedCuda(spec, {"template": "cuda_conv", "parameters": asdict(tile)}).pack([weight])
    steps = packed.reshape(2, 2, 9, 4, 16)  # warp, stage, step, channel, column
    np.testing.assert_array_equal(steps[0, 0, 3], weight[0, 1, 4:8], "tap 1, vector 1")
    np.testing.assert_array_equal(steps[1, 1, 0], weight[1, 1, 12:16], "the tenth of the second stage's vectors")
