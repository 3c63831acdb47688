"""Templates of CUDA kernels: which kernels they compute, and what of a damaged log they refuse."""

from __future__ import annotations

import pytest

from ofa_tvm.compiler.cuda.emit import EmittedCuda, candidates, default_schedule, expands_on
from ofa_tvm.compiler.cuda.emit.gpu_model import gpu_model
from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.spaces import SPACES

GPU = gpu_model("sm_90")
DEPTHWISE = KernelSpec("depthwise", 672, 672, 14, 5, 1, "hard_swish", bias=True, pooled=True)
DENSE = KernelSpec("dense", 960, 240, 1, activation="relu", bias=True)
IMAGE = KernelSpec("conv", 3, 16, 224, 3, 2, "hard_swish", bias=True)
POOL = KernelSpec("pool", 960, 960, 7)
MAX_POOL = KernelSpec("max_pool", 64, 64, 112, 3, 2)


@pytest.mark.seconds(6)
@pytest.mark.parametrize(
    ("name", "dtype", "batch"),
    [
        ("mbv3-cifar", "float32", 1),
        ("mbv3-cifar-large", "float16", 1),
        ("mbv3", "float16", 1),
        ("mbv3-small", "float32", 64),
        ("proxyless", "float16", 16),
        ("efficientnet-lite", "float32", 1),
        ("resnet50d", "float16", 16),
        ("resnet50d-w0.65", "float32", 1),
    ],
)
def test_all_kernels_of_a_space_have_a_template(name, dtype, batch):
    space = SPACES[name]
    kernels = fused_kernels(space, (min(space.resolutions), max(space.resolutions)), dtype, batch, expands_on("sm_90"))
    assert kernels
    for spec in kernels.values():
        assert EmittedCuda(spec, default_schedule(spec, GPU)).launch.threads % 32 == 0


@pytest.mark.parametrize("spec", [DEPTHWISE, DENSE, IMAGE, POOL, MAX_POOL], ids=lambda spec: spec.kind)
def test_every_candidate_suits(spec):
    found = candidates(spec, GPU)
    assert len(found) > 2
    for schedule in found:
        assert EmittedCuda(spec, schedule).spec is spec


@pytest.mark.parametrize(
    ("spec", "template", "parameters"),
    [
        (DEPTHWISE, "depthwise", {"groups": 3, "run": 1, "across": 1, "rows": 1}),
        (DEPTHWISE, "depthwise", {"groups": 4, "run": 2, "across": 40, "rows": 1}),
        (DEPTHWISE, "depthwise", {"groups": 4, "run": 2, "across": 7, "rows": 10**9}),
        (DEPTHWISE, "depthwise", {"groups": 32, "run": 1, "across": 14, "rows": 14}),
        (DEPTHWISE, "pool", {"groups": 4, "threads": 64}),
        (DENSE, "dense", {"lanes": 64, "outputs": 1, "warps": 1, "images": 1}),
        (DENSE, "dense", {"lanes": 12, "outputs": 1, "warps": 1, "images": 1}),
        (DENSE, "dense", {"lanes": 1, "outputs": 1, "warps": 1, "images": 1}),
        (DENSE, "dense", {"lanes": 32, "outputs": 1, "warps": 1, "images": 2}),
        (DENSE, "dense", {"lanes": 32, "outputs": 1, "warps": 64, "images": 1}),
        (IMAGE, "image", {"groups": 2, "run": 100, "across": 1, "rows": 1}),
        (IMAGE, "image", {"groups": 2, "run": 1, "across": 112, "rows": 16}),
        (IMAGE, "image", {"groups": 2, "run": 1, "across": 4, "rows": 0}),
        (MAX_POOL, "window_pool", {"threads": 100}),
        (MAX_POOL, "window_pool", {"threads": 1024}),
        (POOL, "pool", {"groups": 4, "threads": 48}),
        (POOL, "pool", {"groups": 5, "threads": 64}),
        (POOL, "pool", {"groups": 4, "threads": 2048}),
        (POOL, "pool", {"groups": "four", "threads": 64}),
    ],
)
def test_a_damaged_log_is_refused(spec, template, parameters):
    with pytest.raises(ValueError, match="schedule"):
        EmittedCuda(spec, {"template": f"cuda_{template}", "parameters": parameters})


def test_no_template_reads_what_it_does_not_know():
    for spec in (
        KernelSpec("depthwise", 10, 10, 7, 3),
        KernelSpec("depthwise", 16, 16, 7, 3, dtype="float16"),
        KernelSpec("conv", 32, 32, 7, 3, groups=2),
        KernelSpec("conv", 3, 16, 7, 3, dtype="float16", float_vectors=True),
        KernelSpec("depthwise", 8, 8, 7, 3, dtype="float16", float_vectors=True, image=True),
        KernelSpec("max_pool", 10, 10, 7, 3),
        KernelSpec("dense", 64, 64, 1, residual=True, dtype="float16", float_vectors=True),
    ):
        with pytest.raises(ValueError, match="no CUDA template"):
            candidates(spec, GPU)
