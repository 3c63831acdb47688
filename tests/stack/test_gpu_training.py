"""A GPU's training step against autograd's; where there is no GPU, by Triton's interpreter on the CPU."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import tiny
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet import gpu_maps
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.gpu_maps import Depthwise, Norm, map_affine, map_sums
from ofa_tvm.supernet.graphed_step import GraphedStep, has_graphed_step
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.norm_activation import BN_MOMENTUM, finish
from ofa_tvm.supernet.plan import make_plan
from ofa_tvm.supernet.sampling import step_subnets
from ofa_tvm.supernet.step import Step

SPEC = LayerSpec("one", "conv", "input", 40, 40, 6, norm=True)


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def exact_and_reproducible(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(gpu_maps, "PROGRAMS", 8)  # the interpreter runs one after the other
    torch.manual_seed(0)


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE)


def gradient(parameter: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def channels_first(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(0, 3, 1, 2)


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "hard_swish"])
def test_norm(activation):
    inputs = (3 * maps(2, 6, 5, 40) + 1).requires_grad_()
    residual = maps(2, 6, 5, 40) if activation == "none" else None
    weight, bias = (1 + 0.3 * maps(40)).requires_grad_(), maps(40).requires_grad_()
    running = (maps(40), maps(40).abs() + 0.5)
    known_running = tuple(one.clone() for one in running)
    above = maps(2, 6, 5, 40)
    normed = F.batch_norm(
        channels_first(inputs), known_running[0], known_running[1], weight, bias, True, BN_MOMENTUM, 1e-3
    )
    known = finish(normed, activation, None if residual is None else channels_first(residual)).permute(0, 2, 3, 1)
    known.backward(above)
    affine = (weight.detach().clone(), bias.detach().clone())
    for one in affine:
        one.grad = torch.ones_like(one)
    norm = Norm(inputs.detach(), affine, running, replace(SPEC, activation=activation), 1e-3)
    torch.testing.assert_close(norm.apply(residual), known.detach())
    torch.testing.assert_close(norm.gradient(above), inputs.grad, atol=1e-5, rtol=1e-4)
    for ours, one in zip(affine, (weight, bias), strict=True):
        torch.testing.assert_close(ours.grad, 1 + gradient(one), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(running, known_running)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_depthwise(size, stride, shift):
    inputs, weight = maps(2, 8, 6, 40).requires_grad_(), maps(40, 1, size, size).requires_grad_()
    behind = size // 2
    before = behind - shift
    padded = F.pad(channels_first(inputs), (before, behind + shift, before, behind + shift))
    known = F.conv2d(padded, weight, stride=stride, groups=40).permute(0, 2, 3, 1)
    conv = Depthwise(inputs.detach(), weight.detach()[:, 0].permute(1, 2, 0).contiguous(), stride, before)
    above = maps(*known.shape)
    known.backward(above)
    torch.testing.assert_close(conv.output(), known.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(conv.to_inputs(above), inputs.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(conv.to_taps(above).permute(2, 0, 1)[:, None], weight.grad, atol=1e-3, rtol=1e-4)


def test_sums_and_scales_of_maps():
    inputs, other, scale, shift = maps(3, 5, 4, 24), maps(3, 5, 4, 24), maps(3, 24), maps(3, 24)
    torch.testing.assert_close(map_sums(inputs), inputs.sum((1, 2)))
    torch.testing.assert_close(map_sums(inputs, other), (inputs * other).sum((1, 2)))
    torch.testing.assert_close(map_affine(inputs, scale), inputs * scale[:, None, None])
    torch.testing.assert_close(map_affine(inputs, scale, shift), inputs * scale[:, None, None] + shift[:, None, None])


@pytest.mark.parametrize("space", [tiny.space(), tiny.fused()], ids=lambda space: space.name)
def test_a_step_has_autograds_gradients(space, tiny_dataset):
    plan = make_plan("single-stage", 40, batch=2, resolutions=(12,))
    known = channels_last(Supernet(space)).to(DEVICE)
    ours = deepcopy(known)
    for teacher in (None, lambda images: images.flatten(1)[:, :4].float() / 100):
        steps = [
            kind(net, plan, tiny_dataset.preprocess, teacher) for kind, net in ((Step, known), (GraphedStep, ours))
        ]
        images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, device=DEVICE)
        targets = torch.eye(4, device=DEVICE)[torch.randint(0, 4, (2,))]
        subnets = step_subnets(space, plan, 39)
        losses = [step(images, targets, subnets) for step in steps]
        torch.testing.assert_close(losses[0].largest, losses[1].largest)
        torch.testing.assert_close(losses[0].subnets, losses[1].subnets)
        for (name, one), other in zip(known.named_parameters(), ours.parameters(), strict=True):
            assert (gradient(other) - gradient(one)).norm() <= 1e-3 * gradient(one).norm() + 1e-5, name
    for before, after in zip(known.buffers(), ours.buffers(), strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


def test_a_step_starts_from_no_gradients(tiny_space, tiny_dataset):
    plan = make_plan("single-stage", 40, batch=2, resolutions=(12,), only=tiny_space.smallest.key)
    step = GraphedStep(ours := channels_last(Supernet(tiny_space)).to(DEVICE), plan, tiny_dataset.preprocess)
    images, targets = torch.zeros((2, 3, 16, 16), dtype=torch.uint8, device=DEVICE), torch.eye(4, device=DEVICE)[:2]
    found = []
    for _ in range(2):
        step(images, targets, step_subnets(tiny_space, plan, 0))
        found.append([gradient(parameter).clone() for parameter in ours.parameters()])
    torch.testing.assert_close(found[0], found[1])
    assert any(one.any() for one in found[0])


def test_which_spaces_have_a_graphed_step(tiny_space, monkeypatch):
    assert not has_graphed_step(tiny_space, torch.device("cpu"))
    monkeypatch.setattr("ofa_tvm.supernet.graphed_step.has_triton", lambda device: True)
    found = {name: has_graphed_step(space, torch.device("cuda")) for name, space in SPACES.items()}
    assert found == {name: not name.startswith("resnet50d") for name in SPACES}
    odd = replace(tiny_space, stem_width=12, first_width=12)
    assert not has_graphed_step(odd, torch.device("cuda"))


def test_random_subnets_of_a_window(tiny_space):
    plan = make_plan("single-stage", 400, batch=4, window=64)
    drawn = [step_subnets(tiny_space, plan, step) for step in range(320, 384)]
    assert len({subnets[2].key for subnets in drawn}) == 2
    assert {subnets[0].resolution for subnets in drawn} == set(tiny_space.resolutions)
    assert {one[2].key for one in drawn}.isdisjoint({step_subnets(tiny_space, plan, 319)[2].key})
