"""One kernel or two for an expanding and a depthwise convolution on GPUs."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from ofa_tvm.compiler.cuda.emit import EmittedCuda, expands_on
from ofa_tvm.compiler.cuda.emit.expand_depthwise import EXPAND_DEPTHWISE, ExpandTile
from ofa_tvm.compiler.cuda.emit.gpu_model import GPUS
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.spaces import MBV3

SPEC = KernelSpec("expand_depthwise", 112, 672, 14, 5, 1, "hard_swish", bias=True, pooled=True)
HALF = replace(SPEC, dtype="float16", float_vectors=True)
TILE = ExpandTile(16, 16, 2, 1, 4, 1, 2)


@pytest.mark.parametrize(
    ("spec", "is_accepted"),
    [
        (SPEC, True),
        (HALF, True),
        (replace(HALF, in_size=7, kernel_size=7), True),
        (replace(SPEC, in_size=28), False),
        (replace(SPEC, in_size=28, stride=2), False),
        (replace(SPEC, residual=True), False),
        (replace(HALF, in_channels=20), False),
        (replace(HALF, image=True), False),
        (replace(SPEC, kind="depthwise"), False),
    ],
)
def test_what_it_computes(spec, is_accepted):
    assert EXPAND_DEPTHWISE.accepts(spec) == is_accepted


@pytest.mark.seconds(4)
def test_every_offered_tile_suits():
    for spec in (SPEC, replace(HALF, in_size=7, in_channels=160, out_channels=960, batch=4)):
        offered = list(EXPAND_DEPTHWISE.tiles(spec, GPUS["sm_90"]))
        assert len(offered) > 20
        for us, tile in offered:
            assert EXPAND_DEPTHWISE.suits(spec, tile)
            assert EXPAND_DEPTHWISE.launch(spec, tile).grid[1] * tile.block[1] >= spec.out_channels
            assert GPUS["sm_90"].start_us < us < 1000


@pytest.mark.parametrize(
    "damage",
    [{"cluster": 2}, {"run": 3}, {"run": 28}, {"warps_n": 3}, {"rows": 8}, {"warps_k": 0}, {"warps_k": 64}],
    ids=str,
)
def test_a_damaged_tile_is_refused(damage):
    good = asdict(TILE)
    EmittedCuda(SPEC, {"template": "cuda_expand_depthwise", "parameters": good})
    with pytest.raises(ValueError, match=SPEC.key):
        EmittedCuda(SPEC, {"template": "cuda_expand_depthwise", "parameters": good | damage})


def test_the_model_decides_between_one_kernel_and_two():
    expands = expands_on("sm_90")
    assert not expands(replace(HALF, in_size=28)), "no template"
    chosen = [replace(HALF, in_size=size, kernel_size=k) for size in (7, 14) for k in (3, 5, 7)]
    assert any(map(expands, chosen))
    assert not expands(replace(HALF, batch=64))


@pytest.mark.seconds(4)
def test_a_network_has_one_kernel_where_that_is_chosen():
    network = MBV3.network(MBV3.uniform(160, 2, 3, 3))
    kinds = [step.kernel.kind for step in fused_steps(network, "float16", 1, expands_on("sm_90"))]
    assert kinds.count("expand_depthwise") + kinds.count("depthwise") == sum(
        layer.kind == "depthwise" for layer in network.layers
    )
    assert "depthwise" in kinds


def test_both_weights_are_packed():
    spec = KernelSpec("expand_depthwise", 8, 24, 5, 3, bias=True)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in spec.weight_shapes]
    tile = ExpandTile(16, 16, 1, 1, 1, 1, 1)
    kernel = EmittedCuda(spec, {"template": "cuda_expand_depthwise", "parameters": asdict(tile)})
    expand, bias, taps, deep_bias = kernel.pack(arrays)
    assert (expand.shape, taps.shape) == ((8, 32), (2, 9, 16))
    np.testing.assert_array_equal(taps[1, 4, :8], arrays[2][1, 1, 16:])
    assert not taps[1, :, 8:].any()
    np.testing.assert_array_equal(bias, arrays[1])
    np.testing.assert_array_equal(deep_bias, arrays[3])
