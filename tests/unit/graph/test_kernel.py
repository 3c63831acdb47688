"""The kernel set of a space is closed, canonical and quick to enumerate."""

import subprocess
import sys

import numpy as np
import pytest

from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.graph.kernel import KernelSpec, layer_kernel
from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.spaces import MBV3, MBV3_CIFAR, SPACES
from ofa_tvm.spaces.resnet import BottleneckSpace

SCHEDULED = [space for space in SPACES.values() if not isinstance(space, BottleneckSpace)]
"""Spaces of layers that TVM schedules; those of ResNets pool windows."""
every_space = pytest.mark.parametrize("space", SCHEDULED, ids=lambda space: space.name)


@pytest.mark.seconds(20)
@every_space
def test_random_subnets_need_only_kernels_of_the_space(space):
    kernels = layer_kernels(space)
    for config in space.sample_configs(np.random.default_rng(0), 200):
        for _, kernel in network_kernels(space.network(config)):
            assert kernels[kernel.key] == kernel


@pytest.mark.seconds(20)
@every_space
def test_every_kernel_of_a_space_occurs_in_some_subnet(space):
    resolution = space.resolutions[0]
    found: set[str] = set()
    for config in space.sample_configs(np.random.default_rng(1), 3000):
        same_size = type(config)(resolution, config.stages)
        found.update(kernel.key for _, kernel in network_kernels(space.network(same_size)))
    assert found == set(layer_kernels(space, (resolution,)))


@every_space
def test_keys_and_symbols_are_canonical(space):
    kernels = layer_kernels(space)
    assert len(set(kernels.values())) == len(kernels)
    assert len({kernel.symbol for kernel in kernels.values()}) == len(kernels)
    assert all(kernel.symbol.isidentifier() for kernel in kernels.values())


@pytest.mark.seconds(20)
def test_kernel_counts():
    assert len(layer_kernels(MBV3, (224,))) == 156
    assert len(layer_kernels(MBV3)) == 1977
    assert len(layer_kernels(MBV3_CIFAR, (32,))) == 102
    assert len(layer_kernels(MBV3_CIFAR)) == 280


@every_space
def test_each_layer_is_one_kernel_with_the_same_macs(space):
    network = space.network(space.largest)
    pairs = network_kernels(network, batch=2)
    assert [name for name, _ in pairs] == [layer.name for layer in network.layers]
    assert [kernel.macs for _, kernel in pairs] == [2 * layer.macs for layer in network.layers]
    assert sum(kernel.weight_bytes for _, kernel in pairs) == network.parameter_bytes


def test_key_reads_well():
    kernel = KernelSpec("conv", 112, 448, 14, activation="hard_swish", bias=True)
    assert kernel.key == "conv_14x14_112-448_k1s1_hard_swish_bias_b1"
    gate = KernelSpec("squeeze_excite", 72, 72, 28, hidden_channels=24)
    assert gate.key == "squeeze_excite_28x28_72-24_b1"


def test_work_and_bytes_of_a_kernel():
    kernel = KernelSpec("conv", 8, 16, 10, kernel_size=3, stride=2, bias=True, residual=True, batch=2)
    assert kernel.output_shape == (2, 5, 5, 16)
    assert kernel.macs == 2 * 25 * 9 * 8 * 16
    assert kernel.flops == 2 * kernel.macs + 2 * (2 * 25 * 16)
    assert kernel.weight_bytes == 4 * (9 * 8 * 16 + 16)
    assert kernel.activation_bytes == 4 * (2 * 100 * 8 + 2 * (2 * 25 * 16))


def test_only_a_conv_reads_a_squeeze_excite_layer():
    layer = LayerSpec("after", "depthwise", "gate", 8, 8, 4, kernel_size=3, norm=True)
    with pytest.raises(ValueError, match="after"):
        layer_kernel(layer, scaled=True)


def test_importing_kernels_loads_neither_torch_nor_tvm():
    code = "import sys, ofa_tvm.graph.kernel; sys.exit(bool({'torch', 'tvm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
