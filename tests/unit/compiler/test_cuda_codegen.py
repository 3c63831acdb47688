"""Whole networks by CUDA templates: which are covered, and what names the layer that is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ofa_tvm.compiler.codegen import TemplateCudaCodegen
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import RESNET50D
from ofa_tvm.support.errors import UserError

TARGET = load_target("cuda-sm90-templates")
STEM = LayerSpec("stem", "conv", INPUT, 3, 16, 8, 3, 2, "relu", bias=True)
MIDDLE = LayerSpec("middle", "conv", "stem", 16, 16, 4, 3, activation="relu", bias=True)
HEAD = LayerSpec("head", "linear", "middle", 16, 10, 4, bias=True)
POOLED = LayerSpec("pool", "global_pool", "middle", 16, 16, 4), replace(HEAD, input="pool", in_size=1)


def kinds(dtype: str, *layers: LayerSpec) -> list[str]:
    codegen = TemplateCudaCodegen(TARGET.model_copy(update={"dtype": dtype}))
    return [kernel.kind for _, kernel in codegen.steps(NetworkSpec(8, 3, 10, layers))]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_residual_network_is_covered(dtype):
    codegen = TemplateCudaCodegen(TARGET.model_copy(update={"dtype": dtype, "batch": 64}))
    steps = codegen.steps(RESNET50D.network(RESNET50D.largest))
    assert {kernel.kind for _, kernel in steps} == {"conv", "max_pool", "average_pool", "pool", "dense"}
    assert [kernel.image for _, kernel in steps] == [dtype == "float16", *[False] * (len(steps) - 1)]


def test_the_layer_that_no_template_computes_is_named():
    with pytest.raises(UserError, match=r"layer middle: .* no template for kernel conv_.*_g2_"):
        kinds("float32", STEM, replace(MIDDLE, groups=2), HEAD)


def test_no_kernel_reads_a_map_as_a_vector():
    assert kinds("float32", STEM, MIDDLE, HEAD) == ["conv", "conv", "dense"]
    with pytest.raises(UserError, match=r"layer head: .* reads float16 numbers, which middle has\n.*float32"):
        kinds("float16", STEM, MIDDLE, HEAD)
    assert kinds("float16", STEM, MIDDLE, *POOLED)[-2:] == ["pool", "dense"]


def test_no_kernel_reads_an_image_as_a_map():
    assert kinds("float32", replace(STEM, in_channels=8), MIDDLE, HEAD)
    with pytest.raises(UserError, match=r"layer stem: .* no template"):
        kinds("float16", replace(STEM, in_channels=8), MIDDLE, *POOLED)
