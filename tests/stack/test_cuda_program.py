"""Libraries of kernels from templates, with a stand-in for NVIDIA's driver that runs the kernels on this CPU."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from fake_gpu import build_driver, emulated_cubin
from plain_cuda import PLAIN

from ofa_tvm.compiler.codegen import TemplateCudaCodegen, codegen_of
from ofa_tvm.compiler.cuda import code as cuda_code
from ofa_tvm.compiler.cuda import emit
from ofa_tvm.compiler.cuda.assembler import assemble, make_plan
from ofa_tvm.compiler.cuda.emit import best_guess
from ofa_tvm.devices.pack import jobs as pack_jobs
from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.alone import write_modules
from ofa_tvm.devices.pack.writer import KERNEL_TOLERANCE, SUBNET_TOLERANCE
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR, get_space
from ofa_tvm.support.errors import UserError
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.job import KernelJob, SubnetJob, TunedSubnets

NETWORK = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
WEIGHTS = random_weights(NETWORK)
TARGET = load_target("cuda-sm90-templates")
TOLERANCE = {"float32": 1e-4, "float16": 3e-2}

CALLS = """
import ctypes, os, sys
import numpy as np
library, images, found = ctypes.CDLL(sys.argv[1]), np.load(sys.argv[2]), []
def run(given):
    logits = np.zeros((library.ofa_tvm_batch(), library.ofa_tvm_classes()), np.float32)
    error = library.ofa_tvm_run(*(ctypes.c_void_p(array.ctypes.data) for array in (given, logits)))
    return error or logits
"""
EACH_ONE = "np.save(sys.argv[3], [run(given) for given in images])\n"
OVERLAPPING = "assert library.ofa_tvm_overlap(1) == 0\n" + EACH_ONE.replace("sys.argv[3]", "sys.argv[4]")
ONCE = "sys.exit(run(images[0]) if isinstance(run(images[0]), int) else 0)\n"
FORKED = """
before = run(images[0])
child = os.fork()
if not child:
    os._exit(run(images[0]))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
assert (run(images[0]) == before).all()
"""
IN_THREADS = """
from concurrent.futures import ThreadPoolExecutor
expected = [run(given) for given in images]
with ThreadPoolExecutor(4) as pool:
    for _ in range(5):
        assert all((one == other).all() for one, other in zip(pool.map(run, images), expected))
"""


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    """Kernels from the plainest template, compiled for the stand-in; the folder of its driver."""
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emit, "TEMPLATES", {"plain": PLAIN})
        patch.setattr(cuda_code, "cubin", emulated_cubin(tmp_path_factory.mktemp("kernels")))
        patch.setenv("OFA_TVM_CACHE", str(tmp_path_factory.mktemp("cache")))
        best_guess.cache_clear()
        yield build_driver(folder)
        best_guess.cache_clear()


@pytest.fixture(scope="module")
def library(gpu, tmp_path_factory):
    """The library of a small subnet."""
    library = tmp_path_factory.mktemp("library") / "model.so"
    assemble(make_plan(NETWORK, {}, "sm_90", 1, "float32"), WEIGHTS, "gcc", library)
    return library


def images_of(batch, count=3):
    shape = (count, batch, NETWORK.resolution, NETWORK.resolution, NETWORK.in_channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def called(script, library, folder, driver, *arguments, images=None, **settings):
    """What a process that uses the library without TVM says and how it ends; ``driver`` is where its driver lies."""
    np.save(folder / "images.npy", images_of(1) if images is None else images)
    command = [sys.executable, "-c", CALLS + script, str(library), str(folder / "images.npy"), *map(str, arguments)]
    environment = {**os.environ, **settings, "LD_LIBRARY_PATH": str(driver)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("dtype", "batch"), [("float32", 1), ("float16", 2)])
def test_a_subnet_computes_what_it_should_whether_kernels_overlap_or_not(gpu, tmp_path, dtype, batch):
    library, launched, images = tmp_path / "model.so", tmp_path / "launched", images_of(batch)
    plan = make_plan(NETWORK, {}, "sm_90", batch, dtype)
    assemble(plan, WEIGHTS, "gcc", library)
    files = [tmp_path / "plain.npy", tmp_path / "overlapping.npy"]
    settings = {"FAKE_CUDA_LAUNCHES": str(launched)}
    done = called(EACH_ONE + OVERLAPPING, library, tmp_path, gpu, *files, images=images, **settings)
    assert done.returncode == 0, done.stderr
    expected = np.array([network_logits(NETWORK, WEIGHTS, one) for one in images])
    for file in files:
        assert np.abs(np.load(file) - expected).max() < TOLERANCE[dtype] * np.abs(expected).max()
    np.testing.assert_array_equal(*map(np.load, files))

    lines = [line.split() for line in launched.read_text().splitlines()]
    kernels = [kernel.spec.symbol for kernel in plan.kernels]
    assert [line[0] for line in lines] == 4 * kernels, "before it is recorded, and recorded, without and with overlap"
    clusters = [line[5] for line in lines[: len(kernels)]]
    assert clusters == ["2" if kernel.spec.kind == "dense" else "1" for kernel in plan.kernels]
    overlaps, recorded = ([line[place] for line in lines] for place in (6, 7))
    assert overlaps == ["0"] * 2 * len(kernels) + 2 * ["0", *["1"] * (len(kernels) - 1)]
    assert recorded == 2 * (["0"] * len(kernels) + ["1"] * len(kernels))


def test_steps_share_kernels_but_no_scratch_memory_and_code_is_compiled_once(gpu, tmp_path, monkeypatch):
    plan = make_plan(NETWORK, {}, "sm_90", 1, "float32")
    dense = [number for number, kernel in enumerate(plan.kernels) if kernel.scratch_bytes]
    assert len({plan.scratch[number] for number in dense}) == len(dense) > 1
    assemble(plan, WEIGHTS, "gcc", tmp_path / "first.so")
    monkeypatch.setattr(cuda_code, "cubin", lambda source, architecture: pytest.fail("it was compiled again"))
    assemble(plan, WEIGHTS, "gcc", tmp_path / "second.so")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.so", "second.so"]


@pytest.mark.parametrize(
    ("settings", "number", "words"),
    [
        ({"FAKE_CUDA_FAILS": "cuDeviceGet=100"}, errno.ENODEV, "cannot find a GPU: no CUDA-capable device is detected"),
        (
            {"FAKE_CUDA_ARCHITECTURE": "80"},
            errno.ENOEXEC,
            "compiled for sm_90, and the GPU of this machine, Fake GPU, is sm_80",
        ),
        ({"FAKE_CUDA_FAILS": "cuInit=100"}, errno.ENODEV, "cannot start: no CUDA-capable device is detected (100)"),
        ({"FAKE_CUDA_FAILS": "cuMemAlloc_v2=2"}, errno.ENOMEM, "cannot get memory for the network: out of memory (2)"),
        ({"FAKE_CUDA_FAILS": "cuLaunchKernelEx=1"}, errno.EIO, "cannot launch a kernel: invalid argument (1)"),
        ({"FAKE_CUDA_FAILS": "cuGraphLaunch=700"}, errno.EIO, "cannot start the network: an illegal memory access"),
        (
            {"FAKE_CUDA_FAILS": "cuModuleLoadData=12345"},
            errno.EIO,
            "cannot load the kernels: a result without a name (12345)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(gpu, library, tmp_path, settings, number, words):
    done = called(ONCE, library, tmp_path, gpu, **settings)
    assert done.returncode == number
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1, "once, though it is called twice"


def test_a_missing_driver_is_told_and_one_that_is_too_old(library, tmp_path):
    (tmp_path / "libcuda.so.1").touch()  # whatever this machine has is not looked at
    done = called(ONCE, library, tmp_path, tmp_path)
    assert done.returncode == errno.ENODEV
    assert "no NVIDIA driver on this machine: " in done.stderr
    subprocess.run(["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(tmp_path / "libcuda.so.1")], check=True)
    done = called(ONCE, library, tmp_path, tmp_path)
    assert done.returncode == errno.ENOSYS
    assert "too old: it has no cuInit" in done.stderr


def test_a_forked_child_is_told_and_its_parent_goes_on(gpu, library, tmp_path):
    done = called(FORKED, library, tmp_path, gpu)
    assert done.returncode == 0, done.stderr
    assert "was forked from one that had opened the GPU" in done.stderr


def test_calls_from_several_threads_do_not_mix(gpu, library, tmp_path):
    done = called(IN_THREADS, library, tmp_path, gpu)
    assert done.returncode == 0, done.stderr


def test_the_library_needs_little(library):
    done = subprocess.run(["readelf", "-dV", str(library)], capture_output=True, text=True, check=True)
    needed = {line.partition("[")[2].partition("]")[0] for line in done.stdout.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libc.so.6", "libdl.so.2"}
    assert "GLIBC_2.34" not in done.stdout


KERNELS = [
    replace(
        KernelSpec("conv", 16, 24, 4, activation="hard_swish", bias=True, residual=True, scaled=True),
        batch=2,
        dtype="float16",
        float_vectors=True,
    ),
    KernelSpec("depthwise", 32, 32, 5, 5, 1, "relu", bias=True, pooled=True),
]


def test_a_pack_is_measured_with_nothing_but_a_driver_and_tvms_runtime(gpu, tmp_path):
    """Kernels and a subnet, as ``PackWriter`` puts them into a pack; its workers know nothing of the stand-in."""
    jobs = [KernelJob(spec, {}, TARGET) for spec in KERNELS]
    entries = [pack_jobs.program(job, f"kernel{number}", tmp_path).entry for number, job in enumerate(jobs)]
    subnets = TunedSubnets("mbv3-cifar", 10, (MBV3_CIFAR.smallest.key,), None)
    once = {"windows": 1, "window_ms": 1, "gap_s": 0}
    subnet = pack_jobs.subnet(SubnetJob(subnets, TARGET, WindowPlan(**once)), "subnet", tmp_path).entry
    for entry in (*entries, {**subnet, "reference": subnet}):
        pack_files.append_line(tmp_path / pack_files.ENTRIES, {**entry, "title": entry["id"]})
    tolerances = {"tolerance": KERNEL_TOLERANCE["float16"], "subnet_tolerance": SUBNET_TOLERANCE["float32"]}
    measure = {"repeats": 2, "min_repeat_ms": 0, "timeout_s": 60, **tolerances, **once}
    manifest = {"round": "1", "machine": platform.machine(), "device": "cuda", "tensors": "cpu", "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "measure": measure}))
    write_modules(tmp_path)
    environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(gpu)}
    done = subprocess.run(
        [sys.executable, "measure.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (_, *results), _ = pack_files.read_lines(tmp_path / pack_files.RESULTS)
    assert [(result["status"], len(result["times_ms"])) for result in results] == [("ok", 2), ("ok", 2), ("ok", 1)]
    assert all(time_ms > 0 for result in results for time_ms in result["times_ms"])


@pytest.mark.parametrize(
    ("fails", "status"),
    [("cuStreamSynchronize=700,cuCtxSynchronize=700", "crashed"), ("cuMemAlloc_v2=2", "failed")],
)
def test_what_spoils_the_gpu_for_a_process_counts_as_a_crash(gpu, tmp_path, fails, status):
    """So a pack's script starts a new one."""
    entry = pack_jobs.program(KernelJob(KERNELS[0], {}, TARGET), "k", tmp_path).entry
    (tmp_path / "entry.json").write_text(json.dumps(entry))
    script = (
        "import json, pathlib, sys\nfrom ofa_tvm.devices.pack import forms\n"
        "folder = pathlib.Path(sys.argv[1])\nentry = json.loads((folder / 'entry.json').read_text())\n"
        "settings = {'repeats': 1, 'min_repeat_ms': 1, 'tolerance': 1e-4}\n"
        "print(json.dumps(forms.measure(forms.open_runtime(folder, 'cpu'), folder, entry, settings)))\n"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(gpu), "FAKE_CUDA_FAILS": fails}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == status


def test_the_codegen_of_a_target_with_templates(gpu):
    codegen = codegen_of(TARGET)
    assert isinstance(codegen, TemplateCudaCodegen)
    kinds = {kernel.kind for kernel in codegen.kernels(MBV3_CIFAR, (24,)).values()}
    assert kinds == {"conv", "depthwise", "dense"}
    steps = codegen_of(TARGET.model_copy(update={"batch": 4})).steps(NETWORK)
    assert {kernel.batch for _, kernel in steps} == {4}
    space = get_space("resnet50d")
    with pytest.raises(UserError, match=r"-templates has no template for kernel .*_pool_.*\n.*--target cuda-sm90$"):
        codegen.kernels(space, space.resolutions[:1])


@pytest.mark.parametrize(
    ("architecture", "schedule"),
    [("sm_90", {"template": "nosuch"}), ("sm_80", {"template": "plain", "parameters": {"threads": 8, "cluster": 2}})],
)
def test_a_schedule_that_cannot_be_is_a_damaged_log(gpu, architecture, schedule):
    plan = make_plan(NETWORK, {}, architecture, 1, "float32")
    key = next(kernel.spec.key for kernel in plan.kernels if kernel.spec.kind == "dense")
    assert {kernel.launch.cluster for kernel in plan.kernels} == ({1, 2} if architecture == "sm_90" else {1})
    with pytest.raises(UserError, match=rf"the tuning log is damaged: .*{key}"):
        make_plan(NETWORK, {key: schedule}, architecture, 1, "float32")
