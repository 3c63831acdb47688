"""What TVM extracts is exactly what kernels.py enumerates, and its loops compute what our kernels do."""

import subprocess
import sys

import numpy as np
import pytest

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.compiler.scheduled.kernel_tir import kernel_workload, workload_hash
from ofa_tvm.compiler.scheduled.relax_builder import build_relax
from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel, compile_loops, extract_kernels
from ofa_tvm.compiler.tvm_api.names import Target, tvm
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.llvm_names import known_names
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import MBV3_CIFAR, SPACES
from ofa_tvm.spaces.resnet import BottleneckSpace

HOST = Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu(), "num-cores": 1})
SCHEDULED = [space for space in SPACES.values() if not isinstance(space, BottleneckSpace)]
"""Spaces of layers that TVM schedules; those of ResNets pool windows."""
every_space = pytest.mark.parametrize("space", SCHEDULED, ids=lambda space: space.name)


def images_for(network, batch=1, seed=0):
    shape = (batch, network.resolution, network.resolution, network.in_channels)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@every_space
def test_tvm_extracts_exactly_the_kernels_of_random_subnets(space):
    kernels = layer_kernels(space)
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
    enumerated = [workload_hash(kernel_workload(spec)) for spec in layer_kernels(space, (resolution,)).values()]
    assert len(set(enumerated)) == len(enumerated)
    assert set(enumerated) == extracted


def test_loops_agree_with_assembled_kernels(tmp_path):
    network = MBV3_CIFAR.network(MBV3_CIFAR.smallest)
    weights, images = random_weights(network), images_for(network)
    compile_loops(network, weights, HOST, tmp_path / "loops.so")
    assemble(network, weights, {}, ObjectCache(load_target("x86").attributes), tmp_path / "subnet.so", 1, "g++")
    loops = VirtualMachineModel(tmp_path / "loops.so")
    found, expected = loops.run(loops.bind(images)).numpy(), LoadedModel(tmp_path / "subnet.so")(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4


def test_importing_the_compiler_leaves_torch_alone():
    code = (
        "import sys, ofa_tvm.compiler.scheduled.virtual_machine; loaded = 'torch' in sys.modules; import torch;"
        "sys.exit(loaded or torch.ones(2).sum().item() != 2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_names_of_cpus_and_features_are_those_of_llvm(architecture, capfd):
    triple, known = f"{architecture}-linux-gnu", known_names()[architecture]
    codegen = tvm.target.codegen

    def features(cpu, *more):
        target = {"kind": "llvm", "mtriple": triple, "mcpu": cpu, **({"mattr": list(more)} if more else {})}
        return set(map(str, codegen.llvm_get_cpu_features(Target(target))))

    listed = map(str, codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple})))
    runs = [cpu for cpu in listed if architecture != "x86_64" or "64bit" in features(cpu)]
    assert sorted(runs) == sorted(known["cpus"])
    has = set().union(*map(features, runs))
    assert has <= set(known["features"])
    features(runs[0], *(f"+{name}" for name in known["features"]))
    assert "not a recognized feature" not in capfd.readouterr().err
    features(runs[0], "+avx9000")
    assert "not a recognized feature" in capfd.readouterr().err
