"""Steps of a CPU: they compute what the layers do, from a closed set of kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.compiler.lowering import fused_kernels
from ofa_tvm.graph.fusion import HIDDEN, SUMS, fused_steps
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.numpy_reference import compute
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import FUSED, MBV3, MBV3_CIFAR, SPACES
from ofa_tvm.support.errors import UserError

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def run_steps(network, weights, image):
    """The logits, step by step, with the reference of each kernel."""
    values = {INPUT: image}
    for step in fused_steps(network):
        kernel = step.kernel
        data = [values[name] for name in step.reads]
        data[0] = data[0].reshape(kernel.input_shape)
        last = 2 if kernel.scaled else 1
        outputs = compute(kernel, [*data[:last], *step.constants(weights), *data[last:]])
        values |= dict(zip(step.writes, outputs, strict=True))
    return values[network.layers[-1].name]


def run_layers(network, weights, image):
    """The logits, layer by layer, in plain loops over windows."""
    values = {INPUT: image[0].astype(np.float64)}

    def hard_sigmoid(x):
        return np.clip(x / 6 + 0.5, 0, 1)

    for layer in network.layers:
        x = values[layer.input]
        if layer.kind in ("conv", "depthwise"):
            weight, k, pad = weights[f"{layer.name}.weight"], layer.kernel_size, layer.kernel_size // 2
            padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
            y = np.zeros((layer.out_size, layer.out_size, layer.out_channels))
            for row, column in np.ndindex(layer.out_size, layer.out_size):
                top, left = row * layer.stride, column * layer.stride
                window = padded[top : top + k, left : left + k]
                taps = "hwc,ochw->c" if layer.kind == "depthwise" else "hwc,ochw->o"
                weight_here = weight.transpose(1, 0, 2, 3) if layer.kind == "depthwise" else weight
                y[row, column] = np.einsum(taps, window, weight_here)
        elif layer.kind == "squeeze_excite":
            part = {name: weights[f"{layer.name}.{name}"] for name in ("reduce.weight", "expand.weight")}
            hidden = np.maximum(part["reduce.weight"] @ x.mean((0, 1)) + weights[f"{layer.name}.reduce.bias"], 0)
            y = x * hard_sigmoid(part["expand.weight"] @ hidden + weights[f"{layer.name}.expand.bias"])
        elif layer.kind == "global_pool":
            y = x.mean((0, 1), keepdims=True)
        else:
            y = weights[f"{layer.name}.weight"] @ x.reshape(-1)
        if layer.norm or layer.bias:
            y = y + weights[f"{layer.name}.bias"]
        if layer.residual is not None:
            y = y + values[layer.residual]
        if layer.activation == "relu":
            y = np.maximum(y, 0)
        elif layer.activation == "hard_swish":
            y = y * hard_sigmoid(y)
        values[layer.name] = y
    return values[network.layers[-1].name].reshape(1, -1)


def test_steps_compute_what_the_layers_do(tiny_space):
    rng = np.random.default_rng(0)
    for config in tiny_space.sample_configs(rng, 4):
        network = tiny_space.network(config)
        weights = random_weights(network)
        image = rng.standard_normal((1, network.resolution, network.resolution, 3), np.float32)
        found, expected = run_steps(network, weights, image), run_layers(network, weights, image)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.seconds(20)
@every_space
def test_random_subnets_need_only_kernels_of_the_set(space):
    kernels = fused_kernels(space)
    for config in space.sample_configs(np.random.default_rng(0), 100):
        for step in fused_steps(space.network(config)):
            assert kernels[step.kernel.key] == step.kernel


@pytest.mark.seconds(20)
@every_space
def test_every_kernel_of_the_set_occurs_in_some_subnet(space):
    resolution = space.resolutions[0]
    found: set[str] = set()
    for config in space.sample_configs(np.random.default_rng(1), 3000):
        found.update(step.kernel.key for step in fused_steps(space.network(replace(config, resolution=resolution))))
    assert found == set(fused_kernels(space, (resolution,)))


@pytest.mark.seconds(20)
def test_kernel_counts():
    assert len(fused_kernels(MBV3, (224,))) == 152
    assert len(fused_kernels(MBV3)) == 1640
    assert len(fused_kernels(MBV3_CIFAR, (32,))) == 91
    assert len(fused_kernels(MBV3_CIFAR)) == 227


@every_space
def test_steps_cover_every_layer_once_and_keep_the_work(space):
    network = space.network(space.largest)
    steps = fused_steps(network)
    layers = list(dict.fromkeys(name for step in steps for name in step.layers))
    assert layers == [layer.name for layer in network.layers]
    assert sum(step.kernel.macs for step in steps) == network.macs
    assert sum(step.kernel.weight_bytes for step in steps) == network.parameter_bytes


@every_space
def test_every_tensor_is_written_before_it_is_read(space):
    known, network = {INPUT}, space.network(space.largest)
    for step in fused_steps(network):
        assert set(step.reads) <= known
        assert not set(step.writes) & known
        assert len(step.writes) == len(step.kernel.output_shapes)
        known |= set(step.writes)
    gated = any(layer.kind == "squeeze_excite" for layer in network.layers)
    for end in (SUMS, HIDDEN):
        assert bool({name for name in known if name.endswith(end)}) == gated


def layer(name, kind, source, channels=8, outputs=8, size=6, **more):
    return LayerSpec(name, kind, source, channels, outputs, size, norm=kind in ("conv", "depthwise"), **more)


def test_a_map_that_two_layers_read_is_written():
    layers = (
        layer("first", "conv", INPUT, 3),
        layer("deep", "depthwise", "first", kernel_size=3),
        layer("last", "conv", "deep", residual="first"),
    )
    steps = fused_steps(NetworkSpec(6, 3, 8, layers))
    assert [step.layers for step in steps] == [("first",), ("deep",), ("last",)]


def test_a_pair_that_ends_differently_is_not_fused():
    layers = (
        layer("first", "conv", INPUT, 3, activation="relu"),
        layer("deep", "depthwise", "first", kernel_size=3, activation="hard_swish"),
    )
    assert [step.kernel.kind for step in fused_steps(NetworkSpec(6, 3, 8, layers))] == ["conv", "depthwise"]


def test_pooling_stands_alone_behind_other_layers():
    layers = (
        layer("deep", "depthwise", INPUT, kernel_size=3),
        layer("pool", "global_pool", "deep"),
        LayerSpec("classes", "linear", "pool", 8, 5, 1, bias=True),
    )
    network = NetworkSpec(6, 8, 5, layers)
    assert [step.kernel.kind for step in fused_steps(network)] == ["depthwise", "pool", "dense"]
    weights = random_weights(network)
    image = np.random.default_rng(0).standard_normal((1, 6, 6, 8), np.float32)
    np.testing.assert_allclose(run_steps(network, weights, image), run_layers(network, weights, image), rtol=1e-4)


def test_a_mean_that_nothing_can_scale_is_refused():
    layers = (
        layer("deep", "depthwise", INPUT, kernel_size=3),
        layer("pool", "global_pool", "deep"),
        layer("again", "depthwise", "pool", size=1, kernel_size=3),
    )
    with pytest.raises(ValueError, match="pool"):
        fused_steps(NetworkSpec(6, 8, 8, layers))


def test_int8_has_no_window_over_channels():
    with pytest.raises(UserError, match=r"block1_expand: there is no int8 kernel for a window over channels"):
        fused_steps(FUSED.network(FUSED.smallest), "int8")
