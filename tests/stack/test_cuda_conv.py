"""Convolutions of maps for GPUs: their code run on a CPU, and the machine code that it becomes."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from emulated_cuda import assert_all_compute

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.conv import ConvTile
from ofa_tvm.graph.kernel import KernelSpec

ENDS = KernelSpec("conv", 24, 40, 5, 3, activation="relu", bias=True, residual=True, batch=3)
STRIDED = KernelSpec("conv", 16, 24, 8, 5, 2, activation="silu", bias=True, shifted=True)
SHORTCUT = KernelSpec("conv", 40, 16, 9, 1, 2, bias=True, batch=2)
LIST = KernelSpec("conv", 72, 24, 5, activation="hard_swish", bias=True, batch=3)
SCALED = KernelSpec("conv", 24, 16, 7, 3, scaled=True, valid=True, batch=2)
TYPES: list[dict[str, Any]] = [{"dtype": "float32"}, {"dtype": "float16", "float_vectors": True}]


def emitted(spec: KernelSpec, tile: ConvTile) -> EmittedCuda:
    return EmittedCuda(spec, {"template": "cuda_conv", "parameters": asdict(tile)})


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
]
SMALL = [
    (replace(ENDS, batch=1, in_size=4, dtype="float16", float_vectors=True), ConvTile(16, 8, 1, 1, 2, 2, 4, 1)),
    (replace(STRIDED, in_size=6), ConvTile(16, 16, 1, 1, 1, 1, 2, 2)),
]


@pytest.mark.parametrize("of_type", TYPES, ids=lambda one: one["dtype"])
def test_the_code_computes_what_the_reference_does(of_type, tmp_path):
    assert_all_compute([emitted(replace(spec, **of_type), tile) for spec, tile in CASES], tmp_path)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    assert_all_compute([emitted(spec, tile) for spec, tile in SMALL], tmp_path, sanitizer)
