"""Our schedules for GPUs, and the default ones: their launches, and their code run on a CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cuda_on_cpu import launches, run_on_cpu

from ofa_tvm.compiler.cuda.build import cuda_source, scheduled
from ofa_tvm.compiler.cuda.nvrtc import cubin, cuda_compiler
from ofa_tvm.compiler.cuda.squeeze_excite import DEFAULT_THREADS, THREADS, schedule_squeeze_excite
from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import layer_compute, layer_input_shapes
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3, MBV3_CIFAR
from ofa_tvm.tuner.trace_candidates import TraceSources

SPEC = KernelSpec("squeeze_excite", 72, 72, 5, hidden_channels=24, batch=2)
ATTRIBUTES = load_target("cuda-sm90").attributes
TARGET = Target(ATTRIBUTES)


def random_inputs(spec):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(np.float32) for shape in layer_input_shapes(spec)]


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
@pytest.mark.parametrize(("pooled_apart", "threads"), [(False, (32, 8)), (True, (64, 4))])
def test_its_code_computes_what_the_reference_does(pooled_apart, threads, sanitizer, tmp_path):
    module = schedule_squeeze_excite(SPEC, threads, pooled_apart).mod
    inputs = random_inputs(SPEC)
    found = run_on_cpu(SPEC, module, TARGET, inputs, sanitizer, tmp_path)
    np.testing.assert_allclose(found, layer_compute(SPEC, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        KernelSpec("conv", 3, 16, 9, 3, 2, "hard_swish", bias=True),
        KernelSpec("conv", 24, 40, 5, bias=True, scaled=True, residual=True),
        KernelSpec("conv", 24, 40, 6, 5, 2, "relu", bias=True),
        KernelSpec("depthwise", 24, 24, 7, 5, 2, "hard_swish", bias=True, batch=2),
        KernelSpec("depthwise", 40, 40, 4, 3, 1, "relu", bias=True),
        KernelSpec("squeeze_excite", 72, 72, 5, hidden_channels=24),
        KernelSpec("pool", 40, 40, 4, batch=2),
        KernelSpec("dense", 64, 10, 1, bias=True),
    ],
    ids=lambda spec: spec.key,
)
def test_default_schedules_compute_what_the_reference_does(spec, tmp_path):
    inputs = random_inputs(spec)
    found = run_on_cpu(spec, scheduled(spec, {}, TARGET), TARGET, inputs, "address", tmp_path)
    np.testing.assert_allclose(found, layer_compute(spec, inputs), rtol=1e-4, atol=1e-5)


def test_the_default_is_one_launch_or_with_means_apart_two():
    source = cuda_source(scheduled(SPEC, {}, TARGET), TARGET)
    assert launches(source) == 1
    assert f"__launch_bounds__({DEFAULT_THREADS[0] * DEFAULT_THREADS[1]})" in source
    every = [one for one in layer_kernels(MBV3, (224,)).values() if one.kind == "squeeze_excite"]
    largest_map = max(every, key=lambda one: one.in_channels * one.in_size**2)
    most_hidden = max(every, key=lambda one: one.hidden_channels)
    assert launches(cuda_source(scheduled(largest_map, {}, TARGET), TARGET)) == 2
    assert launches(cuda_source(scheduled(most_hidden, {}, TARGET), TARGET)) <= 2


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_design_is_a_candidate_that_compiles(dtype, tmp_path):
    spec = next(one for one in layer_kernels(MBV3_CIFAR, (28,)).values() if one.kind == "squeeze_excite")
    spec = replace(spec, dtype=dtype)
    asked = TraceSources(ATTRIBUTES, tmp_path, {}, set())(spec).ask(100)
    assert [one.source for one in asked] == ["default", *["template"] * (2 * len(THREADS))]
    sources = [cuda_source(scheduled(spec, one.schedule, TARGET), TARGET, spec.dtype) for one in asked]
    assert {launches(source) for source in sources} == {1, 2}
    assert len(set(sources)) >= 2 * len(THREADS)
    for source in sources[::4]:
        assert cubin(source, "sm_90") if cuda_compiler() else True
