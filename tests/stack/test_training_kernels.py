"""The C kernels of a training step give what torch's operators give in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ofa_tvm.supernet import depthwise, norm_activation
from ofa_tvm.supernet.depthwise import depthwise_conv2d
from ofa_tvm.supernet.norm_activation import norm_activate

CLOSE = 2e-6


def maps(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def apart(found, expected):
    found, expected = found.detach().double(), expected.detach()
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(autouse=True)
def built():
    if depthwise._library() is None or norm_activation._library() is None:
        pytest.skip("no C compiler")


@pytest.mark.parametrize(("stride", "shifted"), [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("batch", "channels", "size"), [(3, 16, 32), (2, 24, 9), (2, 72, 16), (1, 8, 4), (5, 8, 2)])
def test_depthwise_convolutions(batch, channels, size, kernel, stride, shifted):
    if shifted and size % 2:
        pytest.skip("shifted windows are of even maps")
    inputs = maps(batch, channels, size, size).requires_grad_()
    weight = maps(channels, 1, kernel, kernel, seed=1).requires_grad_()
    output = depthwise_conv2d(inputs, weight, stride, (kernel // 2 - shifted, kernel // 2))
    above = maps(*output.shape, seed=2)
    found = [output, *torch.autograd.grad(output, (inputs, weight), above)]
    exact = [one.detach().double().requires_grad_() for one in (inputs, weight)]
    padded = F.pad(exact[0], (kernel // 2 - shifted, kernel // 2) * 2)
    right = F.conv2d(padded, exact[1], stride=stride, groups=channels)
    expected = [right, *torch.autograd.grad(right, exact, above.double())]
    assert all(apart(one, other) < CLOSE for one, other in zip(found, expected, strict=True))


def test_the_compiled_kernels_are_what_runs(monkeypatch):
    monkeypatch.setattr(F, "conv2d", lambda *args, **options: pytest.fail("torch's operator ran"))
    depthwise_conv2d(maps(2, 24, 8, 8), maps(24, 1, 5, 5), 1, (2, 2))


def test_other_depthwise_convolutions_are_torchs():
    for inputs, weight in ((maps(2, 12, 8, 8), maps(12, 1, 3, 3)), (maps(2, 8, 8, 8), maps(8, 1, 9, 9))):
        pads = (weight.shape[-1] // 2,) * 2
        expected = F.conv2d(inputs, weight, padding=pads[0], groups=len(weight))
        torch.testing.assert_close(depthwise_conv2d(inputs, weight, 1, pads), expected)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("activation", "adds"), [("none", False), ("none", True), ("relu", False), ("relu6", False), ("hard_swish", False)]
)
@pytest.mark.parametrize("shape", [(4, 24, 9, 9), (2, 7, 1, 3), (64, 16, 16, 16)])
def test_norm_residual_and_activation(shape, activation, adds, threads, monkeypatch):
    torch.manual_seed(0)
    channels = shape[1]
    inputs = (3 * maps(*shape) + 5).requires_grad_()
    affine = [torch.randn(channels).requires_grad_() for _ in range(2)]
    given = [inputs, *affine, *([maps(*shape, seed=3).requires_grad_()] if adds else [])]
    above = maps(*shape, seed=4)

    def run(values, is_fused):
        monkeypatch.setattr(norm_activation, "_is_fused", lambda *_: is_fused)
        statistics = torch.zeros(channels, dtype=values[0].dtype), torch.ones(channels, dtype=values[0].dtype)
        residual = values[3] if adds else None
        output = norm_activate(values[0], statistics, (values[1], values[2]), activation, residual)
        return [output, *statistics, *torch.autograd.grad(output, values, above.to(output.dtype))]

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run(given, True)
    finally:
        torch.set_num_threads(before)
    expected = run([one.detach().double().requires_grad_() for one in given], False)
    assert all(apart(one, other) < 10 * CLOSE for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "hard_swish"])
@torch.inference_mode()
def test_norms_that_do_not_learn(activation, monkeypatch):
    inputs = 3 * maps(3, 24, 9, 9) + 1
    statistics, affine = (torch.randn(24), torch.rand(24) + 0.5), (torch.randn(24), torch.randn(24))
    residual = maps(3, 24, 9, 9, seed=3) if activation == "none" else None

    def run():
        return norm_activate(inputs, statistics, affine, activation, residual, training=False, epsilon=1e-3)

    found = run()
    assert norm_activation._is_fused(inputs, activation, residual)
    monkeypatch.setattr(norm_activation, "_is_fused", lambda *_: False)
    torch.testing.assert_close(found, run(), rtol=1e-5, atol=1e-5)


def test_an_activation_behind_a_residual_is_torchs():
    assert not norm_activation._is_fused(maps(1, 8, 2, 2), "relu", maps(1, 8, 2, 2))
    assert norm_activation._is_fused(maps(1, 8, 2, 2), "none", maps(1, 8, 2, 2))
    assert not norm_activation._is_fused(maps(1, 8, 2, 2).double(), "none", None)
