"""Inputs that travel in packs: random numbers that repeat, so that they compress, and that still tell kernels apart."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import compute, random_inputs, repeating_inputs

PERIOD = 31
KERNELS = [
    KernelSpec("conv", 64, 96, 8, activation="relu", bias=True, residual=True),
    KernelSpec("conv", 64, 96, 8, scaled=True, residual=True, dtype="int8", bias=True),
    KernelSpec("conv", 3, 64, 16, kernel_size=3, stride=2, activation="hard_swish", dtype="int8", bias=True),
    KernelSpec("expand_depthwise", 64, 96, 8, kernel_size=5, activation="hard_swish", pooled=True, dtype="int8"),
    KernelSpec("dense", 96, 64, 1, dtype="int8"),
]


@pytest.fixture(params=KERNELS, ids=lambda spec: spec.key)
def spec(request):
    return request.param


def test_they_repeat_in_their_types_and_ranges(spec):
    for array, random in zip(repeating_inputs(spec, PERIOD), random_inputs(spec), strict=True):
        assert (array.shape, array.dtype) == (random.shape, random.dtype)
        by_row = spec.dtype == "int8" and array.dtype == np.float32 and array.ndim == 2
        for row, own in zip(*((each if by_row else [each.ravel()]) for each in (array, random)), strict=True):
            np.testing.assert_array_equal(row[:PERIOD], own[:PERIOD])
            np.testing.assert_array_equal(row[PERIOD:], row[:-PERIOD])


def test_they_are_small(spec):
    data = b"".join(array.tobytes() for array in repeating_inputs(spec, PERIOD))
    assert len(zlib.compress(data, 9)) < len(data) / 5


def test_their_outputs_differ_from_place_to_place(spec):
    for output in compute(spec, repeating_inputs(spec, PERIOD)):
        flat = output.ravel()
        assert len(np.unique(flat)) > min(flat.size, 256) / 4
