"""Expanding and depthwise convolutions in one launch on GPUs: their code run on a CPU."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from emulated_cuda import assert_all_compute

from ofa_tvm.compiler.cuda.emit import EmittedCuda
from ofa_tvm.compiler.cuda.emit.expand_depthwise import ExpandTile
from ofa_tvm.graph.kernel import KernelSpec

SUMS = KernelSpec("expand_depthwise", 72, 40, 7, 3, 1, "relu", bias=True, pooled=True, batch=2)
STRIDED = KernelSpec("expand_depthwise", 24, 24, 8, 5, 2, "hard_swish", bias=True, shifted=True)
PLAIN = KernelSpec("expand_depthwise", 16, 16, 5, 3, valid=True)
TYPES: list[dict[str, Any]] = [{"dtype": "float32"}, {"dtype": "float16", "float_vectors": True}]


def emitted(spec: KernelSpec, tile: ExpandTile) -> EmittedCuda:
    return EmittedCuda(spec, {"template": "cuda_expand_depthwise", "parameters": asdict(tile)})


CASES = [
    # Four passes over the map, sums split over two warps, channels behind the last one.
    (SUMS, ExpandTile(16, 16, 1, 2, 2, 1, 2)),
    # A run that reaches beyond the row; pixels that no window covers.
    (STRIDED, ExpandTile(32, 16, 2, 1, 1, 1, 4)),
    (PLAIN, ExpandTile(16, 16, 2, 1, 1, 1, 1)),
]
SMALL = [
    (replace(SUMS, batch=1, in_size=4, dtype="float16", float_vectors=True), ExpandTile(16, 8, 1, 1, 2, 1, 2)),
    (replace(STRIDED, in_size=4), ExpandTile(16, 16, 1, 1, 1, 1, 2)),
]


@pytest.mark.parametrize("of_type", TYPES, ids=lambda one: one["dtype"])
def test_the_code_computes_what_the_reference_does(of_type, tmp_path):
    assert_all_compute([emitted(replace(spec, **of_type), tile) for spec, tile in CASES], tmp_path)


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_sanitizers_find_nothing(sanitizer, tmp_path):
    assert_all_compute([emitted(spec, tile) for spec, tile in SMALL], tmp_path, sanitizer)
