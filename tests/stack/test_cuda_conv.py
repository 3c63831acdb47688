"""Convolutions of maps for GPUs, and expanding with depthwise ones in one launch: their code run on a CPU."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from emulated_cuda import assert_all_compute

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.conv import ConvTile
from ofa_tvm.compiler.cuda.emit.expand_depthwise import ExpandTile
from ofa_tvm.compiler.cuda.emit.matrix import MatrixTile
from ofa_tvm.graph.kernel import KernelSpec

ENDS = KernelSpec("conv", 24, 40, 5, 3, activation="relu", bias=True, residual=True, batch=3)
STRIDED = KernelSpec("conv", 16, 24, 8, 5, 2, activation="silu", bias=True, shifted=True)
SHORTCUT = KernelSpec("conv", 40, 16, 9, 1, 2, bias=True, batch=2)
LIST = KernelSpec("conv", 72, 24, 5, activation="hard_swish", bias=True, batch=3)
SCALED = KernelSpec("conv", 24, 16, 7, 3, scaled=True, valid=True, batch=2)
SUMS = KernelSpec("expand_depthwise", 72, 40, 7, 3, 1, "relu", bias=True, pooled=True, batch=2)
HALVED = KernelSpec("expand_depthwise", 24, 24, 8, 5, 2, "hard_swish", bias=True, shifted=True)
VALID = KernelSpec("expand_depthwise", 16, 16, 5, 3, valid=True)


def emitted(spec: KernelSpec, tile: MatrixTile) -> EmittedCuda:
    name = "cuda_conv" if isinstance(tile, ConvTile) else "cuda_expand_depthwise"
    return EmittedCuda(spec, {"template": name, "parameters": asdict(tile)})


def half(spec: KernelSpec) -> KernelSpec:
    return replace(spec, dtype="float16", float_vectors=True)


CASES = [
    # Blocks of two images; sums split over warps and a cluster, whose last block has fewer channels.
    (ENDS, ConvTile(32, 16, 2, 1, 2, 2, 5, 1)),
    # Parts of a map, whose last pixels do not exist; all channels at once.
    (STRIDED, ConvTile(16, 16, 1, 2, 1, 1, 3, 2)),
    # Every other pixel is copied; several stages, the last one not full.
    (SHORTCUT, ConvTile(16, 16, 1, 1, 2, 1, 4, 2)),
    # A list of pixels, in more stages than are under way.
    (LIST, ConvTile(32, 32, 2, 1, 1, 1, 48, 3)),
    (SCALED, ConvTile(16, 16, 2, 1, 1, 2, 5, 1)),
    # Four passes over the map, sums split over two warps, channels behind the last one.
    (SUMS, ExpandTile(16, 16, 1, 2, 2, 1, 2)),
    # A run that reaches beyond the row; pixels that no window covers.
    (HALVED, ExpandTile(32, 16, 2, 1, 1, 1, 4)),
    (VALID, ExpandTile(16, 16, 2, 1, 1, 1, 1)),
]
SMALL = [
    # Two stages; and a single one, whose window lies where sums are put.
    (half(replace(ENDS, batch=1, in_size=4)), ConvTile(16, 8, 1, 1, 2, 2, 4, 1)),
    (replace(STRIDED, in_size=6), ConvTile(16, 16, 1, 1, 1, 1, 2, 4)),
    (half(replace(SUMS, batch=1, in_size=4)), ExpandTile(16, 8, 1, 1, 2, 1, 2)),
    (replace(HALVED, in_size=4), ExpandTile(16, 16, 1, 1, 1, 1, 2)),
]


def test_the_code_computes_what_the_reference_does(tmp_path):
    kernels = [emitted(one, tile) for spec, tile in CASES for one in (spec, half(spec))]
    assert_all_compute(kernels, tmp_path)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    assert_all_compute([emitted(spec, tile) for spec, tile in SMALL], tmp_path, sanitizer)
