"""What TVM extracts is exactly what kernels.py enumerates, and what it compiles computes the network."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from ofa_tvm.compiler.default_schedule import default_schedule
from ofa_tvm.compiler.kernel_tir import kernel_workload, workload_hash
from ofa_tvm.compiler.pipeline import apply_schedules, compile_network, export, extract_kernels
from ofa_tvm.compiler.relax_builder import build_relax
from ofa_tvm.compiler.runtime import load
from ofa_tvm.compiler.tvm_import import Target, load_tensor_intrinsics, ms, tvm
from ofa_tvm.kernels import network_kernels, space_kernels
from ofa_tvm.onnx_export import to_onnx
from ofa_tvm.spaces import MBV3, MBV3_CIFAR, SPACES
from ofa_tvm.weights import random_weights

HOST = Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu(), "num-cores": 1})
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def images_for(network, batch=1, seed=0):
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def reference(network, weights, images):
    model = to_onnx(network, weights, len(images)).SerializeToString()
    session = onnxruntime.InferenceSession(model)
    return session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@every_space
def test_tvm_extracts_exactly_the_kernels_of_random_subnets(space):
    kernels = space_kernels(space)
    for config in space.sample_configs(np.random.default_rng(3), 4):
        network = space.network(config)
        claimed = {spec.key for _, spec in network_kernels(network)}
        extracted = extract_kernels(build_relax(network, random_weights(network)), network, HOST)
        assert set(extracted) == claimed
        for key, workload in extracted.items():
            assert workload_hash(workload) == workload_hash(kernel_workload(kernels[key]))


@every_space
def test_uniform_subnets_reach_every_kernel_of_a_resolution(space):
    resolution = space.resolutions[0]
    extracted = set()
    for kernel_size in space.kernel_choices:
        for expand_ratio in space.expand_choices:
            network = space.network(space.uniform(resolution, space.max_depth, kernel_size, expand_ratio))
            module = build_relax(network, random_weights(network))
            extracted |= {workload_hash(workload) for workload in extract_kernels(module, network, HOST).values()}
    enumerated = [workload_hash(kernel_workload(spec)) for spec in space_kernels(space, (resolution,)).values()]
    assert len(set(enumerated)) == len(enumerated)
    assert set(enumerated) == extracted


@pytest.mark.parametrize(("space", "resolution", "seed"), [(MBV3_CIFAR, 28, 1), (MBV3_CIFAR, 32, 2), (MBV3, 132, 3)])
def test_compiled_subnet_agrees_with_onnx_runtime(space, resolution, seed):
    sampled = space.sample_configs(np.random.default_rng(seed), 1)[0]
    network = space.network(type(sampled)(resolution, sampled.stages))
    weights = random_weights(network, seed)
    images = images_for(network)
    found = load(compile_network(network, weights, HOST))(images)
    assert found.shape == (1, network.classes)
    assert relative_error(found, reference(network, weights, images)) < 1e-4


def test_batches_and_threads():
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    weights = random_weights(network)
    images = images_for(network, batch=3)
    target = Target({**HOST.export(), "num-cores": 2})
    found = load(compile_network(network, weights, target, batch=3))(images)
    assert relative_error(found, reference(network, weights, images)) < 1e-4


@pytest.mark.parametrize("mcpu", ["haswell", "x86-64"])
def test_every_kernel_has_a_default_schedule_for_narrow_vectors(mcpu):
    target = Target({"kind": "llvm", "mcpu": mcpu, "num-cores": 4})
    for spec in space_kernels(MBV3_CIFAR, (28,)).values():
        assert default_schedule(kernel_workload(spec), target) is not None


def test_records_of_a_database_are_used_and_repack_weights():
    load_tensor_intrinsics()
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    weights = random_weights(network)
    module = build_relax(network, weights)
    key, workload = next(item for item in extract_kernels(module, network, HOST).items() if "_24-48_" in item[0])
    schedule = default_schedule(workload, HOST)
    rewrite = ms.postproc.RewriteLayout()
    rewrite._initialize_with_tune_context(ms.TuneContext(mod=workload, target=HOST, num_threads=1))
    assert rewrite.apply(schedule)
    database = ms.database.MemoryDatabase()
    arguments = ms.arg_info.ArgInfo.from_entry_func(workload, remove_preproc=True)
    entry = database.commit_workload(workload)
    database.commit_tuning_record(ms.database.TuningRecord(schedule.trace, entry, [1e-4], HOST, arguments))
    scheduled = apply_schedules(module, HOST, database)
    repacked = {variable.name_hint for variable in scheduled.get_global_vars() if "_prepacked" in variable.name_hint}
    assert repacked == {f"{key.replace('-', '_')}_prepacked"}
    images = images_for(network)
    found = load(tvm.compile(scheduled, HOST))(images)
    assert relative_error(found, reference(network, weights, images)) < 1e-4


def test_exported_library_gives_the_same_output_in_a_fresh_process(tmp_path):
    network = MBV3_CIFAR.network(MBV3_CIFAR.largest)
    images = images_for(network)
    executable = compile_network(network, random_weights(network), HOST)
    export(executable, tmp_path / "subnet.so")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np; from pathlib import Path; from ofa_tvm.compiler.runtime import load;"
        "folder = Path(sys.argv[1]); model = load(folder / 'subnet.so');"
        "np.save(folder / 'logits.npy', model(np.load(folder / 'images.npy')))"
    )
    fresh = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert fresh.stderr == ""
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), load(executable)(images))


def test_times_are_one_value_for_each_repeat():
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    model = load(compile_network(network, random_weights(network), HOST))
    times = model.time_ms(images_for(network), repeats=3)
    assert len(times) == 3
    assert all(0 < time < 1000 for time in times)


def test_importing_the_compiler_leaves_torch_alone():
    code = (
        "import sys, ofa_tvm.compiler.pipeline; loaded = 'torch' in sys.modules; import torch;"
        "sys.exit(loaded or torch.ones(2).sum().item() != 2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
