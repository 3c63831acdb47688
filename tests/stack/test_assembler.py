"""An assembled library computes the network, alone and from several threads, and says no to what it cannot take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ofa_tvm.compiler.cpu.assembler import assemble, make_plan
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel, load_anew
from ofa_tvm.compiler.tvm_api.names import tvm
from ofa_tvm.graph.fusion import fused_steps
from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3, MBV3_CIFAR
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.timing.window import MIN_CALLS, Window

LINKER = load_target("x86").toolchain.linker


def cache(threads=1):
    return ObjectCache({"kind": "llvm", "mcpu": load_target("x86").target.mcpu, "num-cores": threads})


def images_for(network, batch=1, seed=0):
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def reference(network, weights, images):
    model = to_onnx(network, weights, len(images)).SerializeToString()
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def sampled(space, seed, resolution):
    return space.network(replace(space.sample_configs(np.random.default_rng(seed), 1)[0], resolution=resolution))


@pytest.mark.parametrize(
    ("space", "resolution", "seed", "threads", "batch"),
    [(MBV3_CIFAR, 24, 1, 1, 1), (MBV3_CIFAR, 32, 2, 2, 1), (MBV3, 132, 3, 1, 1), (MBV3_CIFAR, 28, 4, 2, 3)],
)
def test_random_subnets_agree_with_onnx_runtime(space, resolution, seed, threads, batch, tmp_path):
    network = sampled(space, seed, resolution)
    weights, images = random_weights(network, seed), images_for(network, batch)
    library = tmp_path / "subnet.so"
    assemble(network, weights, {}, cache(threads), library, batch, LINKER)
    model = LoadedModel(library)
    found = model(images)
    assert found.shape == (batch, network.classes)
    assert relative_error(found, reference(network, weights, images)) < 1e-4
    np.testing.assert_array_equal(model(images), found)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Network, weights and library of a small subnet."""
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    weights = random_weights(network)
    library = tmp_path_factory.mktemp("small") / "subnet.so"
    assemble(network, weights, {}, cache(), library, 1, LINKER)
    return network, weights, library


def test_it_runs_without_tvm(small):
    """By plain dlopen, and with an image that does not begin at a cache line."""
    network, weights, library = small
    code = (
        "import ctypes, sys, numpy as np; size, classes = int(sys.argv[2]), int(sys.argv[3])\n"
        "memory = np.zeros(size * size * 3 + 16, np.float32)\n"
        "first = next(i for i in range(16) if (memory.ctypes.data + 4 * i) % 64 == 4)\n"
        "image = memory[first : first + size * size * 3]\n"
        "image[:] = np.frombuffer(sys.stdin.buffer.read(), np.float32)\n"
        "logits = np.zeros(classes, np.float32); library = ctypes.CDLL(sys.argv[1], mode=1)\n"
        "pointers = [ctypes.c_void_p(a.ctypes.data) for a in (image, logits)]\n"
        "assert library.ofa_tvm_run(*pointers) == 0 and 'tvm' not in sys.modules\n"
        "sys.stdout.buffer.write(logits.tobytes())"
    )
    images = images_for(network)
    command = [sys.executable, "-c", code, str(library), str(network.resolution), str(network.classes)]
    done = subprocess.run(command, input=images.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert relative_error(np.frombuffer(done.stdout, np.float32), reference(network, weights, images)[0]) < 1e-4


def test_calls_from_several_threads_do_not_mix(small):
    network, _, library = small
    model = LoadedModel(library)
    inputs = [images_for(network, seed=seed) for seed in range(8)]
    expected = [model(images) for images in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(model, inputs), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


def test_a_forked_child_has_threads_of_its_own(tmp_path):
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    library = tmp_path / "subnet.so"
    assemble(network, random_weights(network), {}, cache(2), library, 1, LINKER)
    code = (
        "import ctypes, os, sys, numpy as np\n"
        "library = ctypes.CDLL(sys.argv[1], mode=1)\n"
        "image, logits = np.ones(int(sys.argv[2]), np.float32), np.zeros(int(sys.argv[3]), np.float32)\n"
        "def run():\n"
        "    assert library.ofa_tvm_run(ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(logits.ctypes.data)) == 0\n"
        "    return logits.copy()\n"
        "expected = run()\n"
        "child = os.fork()\n"
        "assert (run() == expected).all()\n"
        "if child: sys.exit(os.waitpid(child, 0)[1])\n"
    )
    floats = [str(network.resolution**2 * 3), str(network.classes)]
    done = subprocess.run(
        [sys.executable, "-c", code, str(library), *floats], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda shape: np.zeros((1, 3, 3, 3), np.float32), "images must be"),
        (lambda shape: np.zeros((2, *shape[1:]), np.float32), "images must be"),
        (lambda shape: np.zeros(shape, np.float64), "images must be"),
    ],
)
def test_wrong_tensors_are_refused(small, images, message):
    network, _, library = small
    size = network.resolution
    with pytest.raises(ValueError, match=message):
        LoadedModel(library)(images((1, size, size, 3)))


def test_wrong_number_of_arguments_is_refused(small):
    with pytest.raises(TypeError, match="two tensors"):
        tvm.runtime.load_module(str(small[2]))["main"]()


def test_a_window_tells_of_single_calls_and_of_the_calibration_kernel(small):
    network, _, library = small
    for model in (LoadedModel(library), load_anew(library)):
        window = Window.of(model.window(images_for(network), 5))
        assert 0 < window.p50_ms <= window.p90_ms <= window.p99_ms < 1000
        assert 0 < window.any_p50_ms <= window.any_p90_ms <= window.any_p99_ms
        assert window.calls >= MIN_CALLS > 0 <= window.left_out <= window.calls
        assert 0 < window.on_cpu < 1.1
        assert window.calibration_ms > 0


def test_a_library_that_nobody_uses_is_unloaded(small):
    network, _, library = small

    def deleted() -> int:
        return Path("/proc/self/maps").read_text().count(".so (deleted)")  # copies are, as soon as they are loaded

    before = deleted()
    model = load_anew(library)
    model(images_for(network))
    assert deleted() > before
    del model
    assert deleted() == before


def test_a_window_leaves_the_thread_where_it_was_allowed(small):
    network, _, library = small
    allowed = os.sched_getaffinity(0)
    LoadedModel(library).window(images_for(network), 1)
    assert os.sched_getaffinity(0) == allowed


def test_figures_of_another_length_are_refused(small):
    network, _, library = small
    model = LoadedModel(library)
    for figures in (np.zeros(3), np.zeros(10, np.float32)):
        with pytest.raises(ValueError, match="float64"):
            model._module["window"](*model.bind(images_for(network)), 1.0, tvm.runtime.tensor(figures))


def test_a_missing_linker_is_named(small, tmp_path):
    network, weights, _ = small
    with pytest.raises(UserError, match="no-such-linker is not installed"):
        assemble(network, weights, {}, cache(), tmp_path / "subnet.so", 1, "no-such-linker")


def test_a_failing_linker_is_quoted(small, tmp_path):
    network, weights, _ = small
    with pytest.raises(OfaTvmError, match="false could not link"):
        assemble(network, weights, {}, cache(), tmp_path / "subnet.so", 1, "false")


def test_winners_are_used_and_unknown_ones_are_not(small):
    network, weights, _ = small
    plan = make_plan(network, weights, {}, cache())
    first = plan.kernels[0]
    other = {"template": "full_window", "parameters": {"columns": 2, "channels": 8}}
    assert other != first.schedule
    tuned = make_plan(network, weights, {first.spec.key: other}, cache())
    assert tuned.kernels[0].schedule == other
    assert [kernel.schedule for kernel in tuned.kernels[1:]] == [kernel.schedule for kernel in plan.kernels[1:]]


def test_memory_is_shared_between_maps(small):
    network, weights, _ = small
    plan = make_plan(network, weights, {}, cache())
    maps = sum(4 * int(np.prod(shape)) for step in plan.steps for shape in step.kernel.output_shapes)
    assert plan.arena_bytes < maps


def test_the_library_needs_little(small):
    """Nothing but libc and the function that raises an error."""
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(small[2])], capture_output=True, text=True, check=True
    )
    needed = {line.split()[-1].partition("@")[0] for line in symbols.stdout.splitlines()}
    known = {"memcpy", "mmap", "munmap", "madvise", "pthread_mutex_lock", "pthread_mutex_unlock", "strerror"}
    known |= {"clock_gettime", "sched_getaffinity", "sched_setaffinity", "sched_getcpu", "qsort", "malloc", "free"}
    known |= {
        "__errno_location",
        "__sched_cpucount",
        "TVMFFIErrorSetRaisedFromCStr",
        "__cxa_finalize",
        "__gmon_start__",
    }
    assert {name for name in needed if not name.startswith("_ITM_")} <= known


@pytest.mark.parametrize(
    "schedule",
    [
        {"template": "nosuch", "parameters": {}},
        {"trace": "x"},
        {"template": "pointwise"},
        {"template": "pointwise", "parameters": "abc"},
        {"template": "pointwise", "parameters": {"pixels": 4, "channels": 0}},
        {"template": "pointwise", "parameters": {"pixels": 4, "channels": 4.5}},
        {"template": "pointwise", "parameters": {"pixels": 4, "channels": 8, "colour": 1}},
    ],
)
def test_a_schedule_that_cannot_be_is_a_damaged_log(tmp_path, schedule):
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    kernel = next(
        step.kernel for step in fused_steps(network) if step.kernel.kernel_size == 1 and step.kernel.kind == "conv"
    )
    with pytest.raises(UserError, match=r"the tuning log is damaged: .*" + re.escape(kernel.key)):
        assemble(network, random_weights(network), {kernel.key: schedule}, cache(), tmp_path / "subnet.so", 1, LINKER)


@pytest.mark.parametrize("mcpu", ["foo cpu", "cortex-a76"])
def test_a_cpu_that_llvm_does_not_know_is_refused(mcpu):
    with pytest.raises(UserError, match=f"LLVM knows no CPU '{mcpu}' for x86_64"):
        ObjectCache({**load_target("x86").attributes, "mcpu": mcpu})
