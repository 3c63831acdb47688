"""Published weights: the largest subnet computes what the network that they are of computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.spaces.efficientnet_lite import EFFICIENTNET_LITE
from ofa_tvm.supernet.efficientnet_weights import lite_names
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.published_names import own_names
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.supernet.subnet import extract
from ofa_tvm.support.errors import UserError

EPSILON = 1e-3
BLOCKS = [(32, 16, 1, 3, 1, 1), (16, 24, 6, 3, 2, 2), (24, 40, 6, 5, 2, 2), (40, 80, 6, 3, 2, 3)]
BLOCKS += [(80, 112, 6, 5, 1, 3), (112, 192, 6, 5, 2, 4), (192, 320, 6, 3, 1, 1)]
"""(inputs, outputs, expand, kernel, stride, repeats), as published."""


def rows():
    """(inputs, outputs, expand, kernel, stride) of each block."""
    for inputs, outputs, expand, kernel, stride, repeats in BLOCKS:
        for number in range(repeats):
            yield (inputs, outputs, expand, kernel, stride) if number == 0 else (outputs, outputs, expand, kernel, 1)


def published(seed=0):
    """A file's tensors, all random."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def add(name, *shape):
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:])) ** 0.5

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            values = torch.rand(channels, generator=generator)
            tensors[f"{name}.{part}"] = values + 0.5 if part in ("weight", "running_var") else values - 0.5

    add("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    for number, (inputs, outputs, expand, kernel, _) in enumerate(rows()):
        block, middle = f"_blocks.{number}", inputs * expand
        if expand > 1:
            add(f"{block}._expand_conv", middle, inputs, 1, 1)
            norm(f"{block}._bn0", middle)
        add(f"{block}._depthwise_conv", middle, 1, kernel, kernel)
        norm(f"{block}._bn1", middle)
        add(f"{block}._project_conv", outputs, middle, 1, 1)
        norm(f"{block}._bn2", outputs)
    add("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    add("_fc", 10, 1280)
    tensors["_fc.bias"] = torch.randn(10, generator=generator)
    return tensors


def convolved(tensors, x, name, norm, stride=1, groups=1, active=True):
    """TensorFlow's SAME convolution, batch norm, ReLU6."""
    weight = tensors[f"{name}.weight"]
    kernel, size = weight.shape[-1], x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    x = F.pad(x, (total // 2, total - total // 2) * 2)
    x = F.conv2d(x, weight, stride=stride, groups=groups)
    mean, variance, scale, shift = (
        tensors[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    x = F.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)
    return x.clamp(0, 6) if active else x


def reference(tensors, x):
    x = convolved(tensors, x, "_conv_stem", "_bn0", 2)
    for number, (inputs, outputs, expand, _, stride) in enumerate(rows()):
        block, before = f"_blocks.{number}", x
        if expand > 1:
            x = convolved(tensors, x, f"{block}._expand_conv", f"{block}._bn0")
        x = convolved(tensors, x, f"{block}._depthwise_conv", f"{block}._bn1", stride, inputs * expand)
        x = convolved(tensors, x, f"{block}._project_conv", f"{block}._bn2", active=False)
        x = x + before if stride == 1 and inputs == outputs else x
    x = convolved(tensors, x, "_conv_head", "_bn1").mean((2, 3))
    return F.linear(x, tensors["_fc.weight"], tensors["_fc.bias"])


@pytest.fixture(scope="module")
def space():
    return replace(EFFICIENTNET_LITE.with_classes(10), resolutions=(72, 96))


@pytest.fixture(scope="module")
def supernet(space):
    supernet = Supernet(space)
    missing = supernet.load_state_dict(own_names(space, published(), lite_names(space), Path("file")), strict=False)
    assert not missing.unexpected_keys
    assert all("matrices" in name for name in missing.missing_keys), "kernel matrices start as identities"
    return supernet.eval()


@pytest.mark.parametrize("size", [96, 72])  # 72: maps of 9 pixels, at which stride 2 is not shifted
@torch.inference_mode()
def test_the_largest_subnet_is_the_published_network(space, supernet, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    expected = reference(published(), images)
    subnet = extract(supernet, replace(space.largest, resolution=size))
    torch.testing.assert_close(subnet(images), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        supernet(images, replace(space.largest, resolution=size)), expected, rtol=1e-3, atol=1e-4
    )
    ours = network_logits(subnet.network, subnet.folded(), images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-3, atol=1e-4)
    sort_channels(supernet)
    torch.testing.assert_close(
        extract(supernet, replace(space.largest, resolution=size))(images), expected, rtol=1e-3, atol=1e-4
    )


def test_a_file_that_does_not_fit_names_the_first_tensor(space):
    tensors = published()
    del tensors["_blocks.3._bn1.running_var"]
    with pytest.raises(UserError, match=r"file has no _blocks\.3\._bn1\.running_var"):
        own_names(space, tensors, lite_names(space), Path("file"))
    wide = published() | {"_blocks.5._project_conv.weight": torch.zeros(88, 240, 1, 1)}
    with pytest.raises(UserError, match=r"_blocks\.5\._project_conv\.weight of file has shape \(88, 240, 1, 1\)"):
        own_names(space, wide, lite_names(space), Path("file"))
