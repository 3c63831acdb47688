"""Subnets forward and backward on a GPU, without autograd.

Autograd would give every sliced weight a gradient of the whole weight's size, and add it: more launches than the work
itself. Here each layer adds its gradient to its part of the parameters'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofa_tvm.graph.network import INPUT, Activation, LayerSpec, NetworkSpec
from ofa_tvm.supernet.elastic import (
    ElasticConv,
    ElasticDepthwise,
    ElasticLinear,
    ElasticNorm,
    ElasticSqueezeExcite,
)
from ofa_tvm.supernet.gpu_maps import Depthwise, Norm, map_affine, map_sums
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.norm_activation import finish

Backward = Callable[[Tensor], Tensor | None]
"""From the gradient of a layer's output to that of its input; None where nothing needs it."""
Step = tuple[Tensor, Backward]
MAX_PIECES, MIN_ROWS = 128, 256


class Tape:
    """Runs subnets forward over batches, and gradients backward.

    Args:
        supernet: on a GPU; all its parameters have gradients, each with memory of its own.
        precision: type of maps and of matrix products.
    """

    def __init__(self, supernet: Supernet, precision: torch.dtype) -> None:
        self._supernet, self._precision = supernet, precision
        self._weights = [parameter.detach() for parameter in supernet.parameters() if parameter.dim() > 1]
        self._copies = [torch.empty_like(weight, dtype=precision) for weight in self._weights]
        self._low = {weight.data_ptr(): copy for weight, copy in zip(self._weights, self._copies, strict=True)}
        self._taken: list[tuple[LayerSpec, Backward]] = []

    def refresh(self) -> None:
        """Take over weights that have changed."""
        torch._foreach_copy_(self._copies, self._weights)

    @torch.no_grad()
    def forward(self, network: NetworkSpec, images: Tensor) -> Tensor:
        """Logits (batch, classes) float32 of images (batch, resolution, resolution, 3) in the tape's precision."""
        self._taken = []
        tensors = {INPUT: images}
        for index, spec in enumerate(network.layers):
            residual = None if spec.residual is None else tensors[spec.residual]
            tensors[spec.name], backward = self._layer(spec, tensors[spec.input], residual)
            self._taken.append((spec, backward))
            for name in (spec.input, spec.residual):
                if name is not None and network.last_use[name] <= index:
                    tensors.pop(name, None)
        return tensors[network.layers[-1].name].flatten(1).float()

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        """Add to the parameters' gradients, from that of the last forward's logits."""
        gradients = {self._taken[-1][0].name: gradient.to(self._precision)}
        while self._taken:
            spec, backward = self._taken.pop()
            above = gradients.pop(spec.name)
            below = backward(above)
            if spec.residual is not None:
                _add(gradients, spec.residual, above)
            if below is not None:
                _add(gradients, spec.input, below)

    def _layer(self, spec: LayerSpec, inputs: Tensor, residual: Tensor | None) -> Step:
        module = self._supernet.layers[spec.name]
        match module:
            case ElasticConv():
                is_product = spec.kernel_size == spec.stride == 1
                output, backward = (self._product if is_product else self._conv)(module, spec, inputs)
                if module.norm is None:
                    return _activated(output, backward, spec.activation)
                return _normed(module.norm, spec, output, backward, residual)
            case ElasticDepthwise():
                output, backward = _depthwise(module, spec, inputs)
                assert module.norm is not None  # ``has_graphed_step`` saw to it
                return _normed(module.norm, spec, output, backward, residual)
            case ElasticSqueezeExcite():
                return _squeeze_excite(module, spec, inputs)
            case ElasticLinear():
                return self._linear(module, inputs)
            case _:
                return _pool(inputs)

    def _copy(self, weight: Tensor) -> Tensor:
        return self._low[weight.data_ptr()]

    def _product(self, module: ElasticConv, spec: LayerSpec, inputs: Tensor) -> Step:
        """A 1x1 convolution."""
        weight = self._copy(module.weight)[: spec.out_channels, : spec.in_channels, 0, 0]
        rows = inputs.flatten(0, 2)
        output = (rows @ weight.T).view(*inputs.shape[:3], -1)

        def backward(above: Tensor) -> Tensor:
            flat = above.flatten(0, 2)
            _add_product(_gradient(module.weight)[: spec.out_channels, : spec.in_channels, 0, 0], flat, rows)
            return (flat @ weight).view(inputs.shape)

        return output, backward

    def _conv(self, module: ElasticConv, spec: LayerSpec, inputs: Tensor) -> Step:
        """Any other convolution, in torch's order of channels."""
        kernel, add_gradient = _kernel(module, spec)
        weight = kernel.to(self._precision)
        before, behind = spec.pads
        pad = before if before == behind else 0
        source = inputs.permute(0, 3, 1, 2)
        padded = source if before == behind else F.pad(source, (before, behind, before, behind))
        output = F.conv2d(padded, weight, stride=spec.stride, padding=pad)
        wants = spec.input != INPUT

        def backward(above: Tensor) -> Tensor | None:
            how = ([spec.stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, [wants, True, False])
            to_padded, to_weight, _ = torch.ops.aten.convolution_backward(
                above.permute(0, 3, 1, 2), padded, weight, None, *how
            )
            add_gradient(to_weight.float())
            inner = slice(before - pad, before - pad + spec.in_size)
            return to_padded[:, :, inner, inner].permute(0, 2, 3, 1).contiguous() if wants else None

        return output.permute(0, 2, 3, 1).contiguous(), backward

    def _linear(self, module: ElasticLinear, inputs: Tensor) -> Step:
        rows = inputs.flatten(1)
        channels = rows.shape[1]
        weight = self._copy(module.weight)[:, :channels]
        output = rows @ weight.T + module.bias.to(rows.dtype)

        def backward(above: Tensor) -> Tensor:
            _gradient(module.weight)[:, :channels].add_(above.T @ rows)
            _gradient(module.bias).add_(above.float().sum(0))
            return (above @ weight).view(inputs.shape)

        return output, backward


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _add(gradients: dict[str, Tensor], name: str, more: Tensor) -> None:
    gradients[name] = gradients[name] + more if name in gradients else more


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left.T @ right``, products of two tall matrices, in pieces that keep all of a GPU busy."""
    pieces = 1
    while pieces < MAX_PIECES and len(left) % (2 * pieces) == 0 and len(left) >= 2 * pieces * MIN_ROWS:
        pieces *= 2
    lefts = left.view(pieces, -1, left.shape[1]).transpose(1, 2)
    rights = right.view(pieces, -1, right.shape[1])
    if left.is_cuda and left.dtype != torch.float32:
        products = torch.bmm(lefts, rights, out_dtype=torch.float32)
    else:
        products = torch.bmm(lefts, rights).float()
    total += products.sum(0)


def _normed(norm: ElasticNorm, spec: LayerSpec, inputs: Tensor, before: Backward, residual: Tensor | None) -> Step:
    """The norm, activation and residual behind an operation."""
    assert residual is None or spec.activation == "none"
    count = inputs.shape[-1]
    affine = (_part(norm.weight, count), _part(norm.bias, count))
    running = (norm.running_mean[:count], norm.running_var[:count])
    normed = Norm(inputs, affine, running, spec, norm.epsilon)
    return normed.apply(residual), lambda above: before(normed.gradient(above))


def _part(parameter: Tensor, count: int) -> Tensor:
    """The first numbers of a parameter, and of its gradient."""
    part = parameter.detach()[:count]
    part.grad = _gradient(parameter)[:count]
    return part


def _kernel(module: ElasticConv | ElasticDepthwise, spec: LayerSpec) -> tuple[Tensor, Callable[[Tensor], None]]:
    """A layer's weights in float32, as ``module.kernel`` has them, and what adds their gradient to the parameters'."""
    outputs, inputs = spec.out_channels, spec.in_channels // spec.groups
    weight = module.weight[:outputs, :inputs]
    chain: list[tuple[int, Tensor, nn.Parameter]] = []
    for size in module.sizes:
        if weight.shape[-1] == spec.kernel_size:
            break
        edge = (weight.shape[-1] - size) // 2
        centre = weight[:, :, edge : edge + size, edge : edge + size].flatten(2)
        matrix = module.matrices[str(size)]
        chain.append((edge, centre, matrix))
        weight = (centre @ matrix.T).view(*weight.shape[:2], size, size)

    def add_gradient(to_weight: Tensor) -> None:
        for edge, centre, matrix in reversed(chain):
            flat, size = to_weight.flatten(2), to_weight.shape[-1]
            _gradient(matrix).addmm_(flat.flatten(0, 1).T, centre.flatten(0, 1))
            to_weight = F.pad((flat @ matrix).view(*to_weight.shape[:2], size, size), (edge,) * 4)
        _gradient(module.weight)[:outputs, :inputs].add_(to_weight)

    return weight, add_gradient


def _depthwise(module: ElasticDepthwise, spec: LayerSpec, inputs: Tensor) -> Step:
    weight, add_gradient = _kernel(module, spec)
    conv = Depthwise(inputs, weight[:, 0].permute(1, 2, 0).contiguous(), spec.stride, spec.pads[0])

    def backward(above: Tensor) -> Tensor:
        add_gradient(conv.to_taps(above).permute(2, 0, 1)[:, None])
        return conv.to_inputs(above)

    return conv.output(), backward


def _squeeze_excite(module: ElasticSqueezeExcite, spec: LayerSpec, inputs: Tensor) -> Step:
    channels, hidden = spec.in_channels, spec.hidden_channels
    (first, first_bias), (second, second_bias) = module.tensors(spec)
    first, second = first[:, :, 0, 0], second[:, :, 0, 0]
    area = inputs.shape[1] * inputs.shape[2]
    pooled = map_sums(inputs) / area
    inner = torch.addmm(first_bias, pooled, first.T).relu()
    gate = torch.addmm(second_bias, inner, second.T)
    scale = F.hardsigmoid(gate)

    def backward(above: Tensor) -> Tensor:
        to_gate = torch.ops.aten.hardsigmoid_backward(map_sums(above, inputs), gate)
        _gradient(module.expand.weight)[:channels, :hidden, 0, 0].addmm_(to_gate.T, inner)
        _gradient(cast(Tensor, module.expand.bias))[:channels].add_(to_gate.sum(0))
        to_inner = (to_gate @ second) * (inner > 0)
        _gradient(module.reduce.weight)[:hidden, :channels, 0, 0].addmm_(to_inner.T, pooled)
        _gradient(cast(Tensor, module.reduce.bias))[:hidden].add_(to_inner.sum(0))
        return map_affine(above, scale, (to_inner @ first) / area)

    return map_affine(inputs, scale), backward


def _pool(inputs: Tensor) -> Step:
    batch, height, width, channels = inputs.shape
    output = (map_sums(inputs) / (height * width)).to(inputs.dtype).view(batch, 1, 1, channels)
    return output, lambda above: (above / (height * width)).expand(inputs.shape).contiguous()


def _activated(inputs: Tensor, before: Backward, activation: Activation) -> Step:
    """The activation behind an operation without a norm."""
    slopes: dict[Activation, Callable[[Tensor], Tensor]] = {
        "none": lambda above: above,
        "relu": lambda above: above * (inputs > 0),
        "relu6": lambda above: above * ((inputs > 0) & (inputs < 6)),
        "hard_swish": lambda above: torch.ops.aten.hardswish_backward(above, inputs),
    }
    return finish(inputs.clone(), activation), lambda above: before(slopes[activation](above))
