"""Estimates for ARM: right outputs, the same figure every time, and a better schedule costs less."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cpu.emit import candidates
from ofa_tvm.compiler.cpu.object_cache import ObjectCache
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.devices.estimate.device import EstimateDevice
from ofa_tvm.graph.kernel import KernelSpec
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.timing.turns import WindowPlan
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.job import TunedSubnets
from ofa_tvm.tuner.log import TuningLog

TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-g++", "llvm-mca-19", "llvm-objdump-19")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed"),
]
KERNEL = KernelSpec("conv", 14, 48, 24, activation="relu", bias=True)


@pytest.fixture(scope="module")
def target():
    return load_target("arm", device="estimate")


@pytest.fixture(scope="module")
def device(target):
    with EstimateDevice(target) as device:
        device.start()
        yield device


def schedules(target):
    ranked = candidates(KERNEL, ObjectCache(target.attributes).features)
    return [Candidate(KERNEL.key, "template", schedule) for schedule in (ranked[0], ranked[-1])]


def test_an_estimate_is_checked_and_repeats_exactly(target, device):
    first, last = device.trials(KERNEL, schedules(target), None)
    assert (first.status, first.is_checked) == ("ok", True)
    assert list(device.trials(KERNEL, schedules(target), None)) == [first, last]
    peak_ms = KERNEL.macs / 8 / (1e3 * target.estimate.clock_mhz)  # eight multiply-adds a cycle
    assert peak_ms < first.best_ms < 10 * peak_ms
    assert first.best_ms < last.best_ms


def test_what_is_slower_than_the_best_is_not_checked(target, device):
    first, last = schedules(target)
    best_ms = device.trial(KERNEL, first, None).best_ms
    assert not device.trial(KERNEL, last, best_ms).is_checked


def test_a_schedule_that_makes_no_kernel_fails_with_its_reason(device):
    result = device.trial(KERNEL, Candidate(KERNEL.key, "donor", {"template": "pool", "parameters": {}}), None)
    assert result.status == "failed"
    assert "does not compute kernel" in result.error


def test_a_network_takes_the_sum_of_its_kernels_and_computes_what_it_should(target, device, tmp_path, tiny_space):
    network = tiny_space.network(tiny_space.smallest)
    weights = random_weights(network)
    images = np.random.default_rng(0).standard_normal((3, 12, 12, 3)).astype(np.float32)
    libraries = {}
    for name, attributes, compiler in (
        ("arm", target.attributes, target.toolchain.linker),
        ("x86", load_target("x86").attributes, "g++"),
    ):
        libraries[name] = tmp_path / f"{name}.so"
        assemble(network, weights, {}, ObjectCache(attributes), libraries[name], 1, compiler)
    here = LoadedModel(libraries["x86"])
    expected = np.concatenate([here(images[row : row + 1]) for row in range(len(images))])
    assert relative_error(device.load(libraries["arm"])(images), expected) < 1e-4


def test_what_is_known_of_a_kernel_is_not_estimated_again(target, device, tmp_path):
    log = TuningLog(target, tmp_path)
    subnets = TunedSubnets("mbv3-cifar", 10, ("r24.3x2-3x2.3x2-3x2.3x2-3x2",), log.folder)
    (timing,) = device.time_subnets(subnets, WindowPlan(1, 1, 0))
    assert timing.status == "ok"
    assert device.time_subnets(subnets, WindowPlan(1, 1, 0)) == [timing]
