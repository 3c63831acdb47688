"""bfloat16 as bits: rounding, and what may differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.graph.bfloat16 import STEP, beyond_steps, narrowed, rounded, widened
from ofa_tvm.graph.fusion import fused_steps, refuse_bfloat16, refuse_int8
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.network import INPUT, LayerSpec
from ofa_tvm.graph.numpy_reference import compute, random_inputs
from ofa_tvm.graph.quantisation import cpu_dtype_of, step_constants, untrained_weights
from ofa_tvm.graph.weights import marked
from ofa_tvm.spaces import SPACES
from ofa_tvm.support.errors import UserError

EXPAND = KernelSpec("expand_depthwise", 8, 16, 6, 3, activation="relu", bias=True, pooled=True, dtype="bfloat16")


def test_every_bfloat16_is_kept():
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits[np.isfinite(widened(bits))]
    np.testing.assert_array_equal(narrowed(widened(finite)), finite)


def test_the_nearest_one_and_the_even_one_of_two():
    step = np.float32(2**-7)
    values = np.array([1 + step / 4, 1 + step / 2, 1 + step * 3 / 2, 1 + step * 3 / 4, -1 - step / 2], np.float32)
    assert rounded(values).tolist() == [1, 1, 1 + 2 * step, 1 + step, -1]


def test_a_step_is_no_difference_but_two_are():
    values = np.array([1.0, -2.0, 100.0], np.float32)
    bits = narrowed(values)
    assert not beyond_steps(bits + np.uint16(1), bits).any()
    assert beyond_steps(bits + np.uint16(2), bits).all()
    assert beyond_steps(values * np.float32(1 + STEP / 2), values).all(), "float32 has no steps"


def test_what_products_multiply_is_bfloat16_and_vectors_are_not():
    assert [array.dtype for array in EXPAND.weight_types] == ["uint16", "float32", "uint16", "float32"]
    assert [output.dtype for output in EXPAND.output_types] == ["uint16", "float32"]
    stem = KernelSpec("conv", 3, 16, 8, 3, 2, bias=True, dtype="bfloat16")
    assert [stem.input_type.dtype, *(array.dtype for array in stem.weight_types)] == ["float32"] * 3
    dense = KernelSpec("dense", 16, 8, 1, bias=True, dtype="bfloat16")
    assert [dense.input_type.dtype, *(array.dtype for array in dense.weight_types)] == ["float32", "uint16", "float32"]
    assert dense.output_types[0].dtype == "float32"


def test_the_reference_is_near_that_of_float32_and_rounds_what_it_multiplies():
    inputs = random_inputs(EXPAND)
    exact = compute(replace(EXPAND, dtype="float32"), [widened(array) for array in inputs])
    found = compute(EXPAND, inputs)
    assert found[0].dtype == np.uint16
    for output, other in zip(found, exact, strict=True):
        difference = np.abs(widened(output) - other).max() / np.abs(other).max()
        assert 1e-4 < difference < 2e-2


def test_weights_say_of_what_type_a_network_is():
    network = SPACES["mbv3-cifar"].network(SPACES["mbv3-cifar"].smallest)
    weights = untrained_weights(network, "bfloat16")
    assert [cpu_dtype_of(untrained_weights(network, dtype)) for dtype in ("float32", "int8")] == ["float32", "int8"]
    assert cpu_dtype_of(weights) == "bfloat16"
    assert cpu_dtype_of(marked(untrained_weights(network, "float32"), "bfloat16")) == "bfloat16"
    for step in fused_steps(network, "bfloat16"):
        constants, types = step_constants(step, weights), step.kernel.weight_types
        assert [(array.shape, array.dtype.name) for array in constants] == [(one.shape, one.dtype) for one in types]


LAYER = LayerSpec("odd", "conv", INPUT, 8, 16, 4)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "an image that no window reads"),
        ({"input": "before", "in_channels": 7}, "7 input channels"),
        ({"input": "before", "kernel_size": 3}, "a window over channels"),
        ({"input": "before", "stride": 2}, "a stride without a window"),
    ],
)
def test_layers_without_a_kernel_are_named(changes, why):
    with pytest.raises(UserError, match=f"layer odd: there is no bfloat16 kernel for {why}") as refused:
        refuse_bfloat16(replace(LAYER, **changes))
    assert "leave --dtype bfloat16 out" in refused.value.hint


def test_an_image_that_no_window_reads_has_no_int8_kernel_either():
    with pytest.raises(UserError, match="there is no int8 kernel for an image"):
        refuse_int8(LAYER)
