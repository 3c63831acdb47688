"""Elastic layers: one set of weights at the largest size, sliced to what a LayerSpec asks for.

Weight sharing follows Once-for-All (Cai et al., ICLR 2020, section 3.3): narrower layers use the first
channels, smaller kernels are the centre of larger ones after a learned linear map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.supernet.depthwise import depthwise_conv2d, padded_conv2d
from ofa_tvm.supernet.norm_activation import BN_EPSILON, finish, norm_activate

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Layer(Protocol):
    """What runs one layer: ``activation(norm(operation(inputs)) + residual)``."""

    def __call__(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        ...


def channels_last(module: AnyModule) -> AnyModule:
    """Put a module's weights in channels_last order, in which CPUs run depthwise convolutions several times faster."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def run(network: NetworkSpec, images: Tensor, layer: Callable[[str], Layer]) -> Tensor:
    """Run a network with torch layers looked up by name.

    Args:
        network: what to run.
        images: (batch, channels, resolution, resolution).
        layer: from a layer's name to what runs it.

    Returns:
        Logits, shape (batch, classes).
    """
    tensors = {INPUT: images}
    for index, spec in enumerate(network.layers):
        residual = None if spec.residual is None else tensors[spec.residual]
        tensors[spec.name] = layer(spec.name)(tensors[spec.input], spec, residual)
        for name in (spec.input, spec.residual):
            if name is not None and network.last_use[name] <= index:
                tensors.pop(name, None)
    return tensors[network.layers[-1].name].flatten(1)


def squeeze_excite(
    inputs: Tensor, spec: LayerSpec, reduce: tuple[Tensor, Tensor], expand: tuple[Tensor, Tensor]
) -> Tensor:
    """Scale channels by their pooled importance; (weight, bias) pairs of the two 1x1 convolutions."""
    pooled = inputs.mean((2, 3), keepdim=True)
    hidden = finish(F.conv2d(pooled, *reduce), spec.hidden_activation)
    return inputs * finish(F.conv2d(hidden, *expand), spec.gate)


def window_pool(inputs: Tensor, spec: LayerSpec) -> Tensor:
    """The largest value, or the mean, of each window; padding never counts."""
    if spec.kind == "average_pool":
        return F.avg_pool2d(inputs, spec.kernel_size, spec.stride)
    before, behind = spec.pads
    padded = F.pad(inputs, (before, behind, before, behind), value=-torch.inf)
    return F.max_pool2d(padded, spec.kernel_size, spec.stride)


class ElasticNorm(nn.Module):
    """Batch norm of the first channels."""

    def __init__(self, channels: int, epsilon: float = BN_EPSILON) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None) -> Tensor:
        """Normalise (batch, channels, height, width), and what follows in the layer."""
        count = inputs.shape[1]
        return norm_activate(
            inputs,
            (self.running_mean[:count], self.running_var[:count]),
            (self.weight[:count], self.bias[:count]),
            spec.activation,
            residual,
            self.training,
            epsilon=self.epsilon,
        )


class _ElasticWindow(nn.Module):
    """Weights of a window with elastic channels (first outputs, first inputs) and kernel size, its bias and norm.

    A smaller kernel is the centre of the next larger one, mapped by a matrix that all channels share
    (OFA section 3.3), in a chain from the largest.
    """

    def __init__(self, spec: LayerSpec, groups: int, kernel_choices: tuple[int, ...], epsilon: float) -> None:
        super().__init__()
        weight = torch.empty(spec.out_channels, spec.in_channels // groups, spec.kernel_size, spec.kernel_size)
        nn.init.kaiming_normal_(weight, mode="fan_out")
        self.weight = nn.Parameter(weight)
        self.sizes = [size for size in sorted(kernel_choices, reverse=True) if size < spec.kernel_size]
        self.matrices = nn.ParameterDict({str(size): nn.Parameter(torch.eye(size * size)) for size in self.sizes})
        self.bias = nn.Parameter(torch.zeros(spec.out_channels)) if spec.bias else None
        self.norm = ElasticNorm(spec.out_channels, epsilon) if spec.norm else None

    def kernel(self, spec: LayerSpec) -> Tensor:
        """Weights of a subnet's layer, shape (out_channels, inputs of a group, kernel_size, kernel_size)."""
        weight = self.weight[: spec.out_channels, : spec.in_channels // spec.groups]
        for size in self.sizes:
            if weight.shape[-1] == spec.kernel_size:
                break
            edge = (weight.shape[-1] - size) // 2
            centre = weight[:, :, edge : edge + size, edge : edge + size]
            weight = (centre.flatten(2) @ self.matrices[str(size)].T).view(*weight.shape[:2], size, size)
        return weight

    def finish(self, output: Tensor, spec: LayerSpec, residual: Tensor | None) -> Tensor:
        """What follows the convolution in the layer."""
        if self.norm is None:
            return finish(output, spec.activation, residual)
        normed: Tensor = self.norm(output, spec, residual)
        return normed


class ElasticConv(_ElasticWindow):
    """Convolution over channels, grouped or not."""

    def __init__(self, spec: LayerSpec, kernel_choices: tuple[int, ...], epsilon: float) -> None:
        super().__init__(spec, spec.groups, kernel_choices, epsilon)

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        bias = None if self.bias is None else self.bias[: spec.out_channels]
        output = padded_conv2d(inputs, self.kernel(spec), spec.stride, spec.pads, spec.groups, bias)
        return self.finish(output, spec, residual)


class ElasticDepthwise(_ElasticWindow):
    """Depthwise convolution."""

    def __init__(self, spec: LayerSpec, kernel_choices: tuple[int, ...], epsilon: float) -> None:
        super().__init__(spec, spec.out_channels, kernel_choices, epsilon)

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        bias = None if self.bias is None else self.bias[: spec.out_channels]
        output = depthwise_conv2d(inputs, self.kernel(spec), spec.stride, spec.pads, bias)
        return self.finish(output, spec, residual)


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-excite with elastic channels and hidden channels."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(spec.in_channels, spec.hidden_channels, 1)
        self.expand = nn.Conv2d(spec.hidden_channels, spec.in_channels, 1)

    def tensors(self, spec: LayerSpec) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(weight, bias) of the reducing and of the expanding convolution of a subnet's layer."""
        channels, hidden = spec.in_channels, spec.hidden_channels
        assert self.reduce.bias is not None and self.expand.bias is not None
        return (
            (self.reduce.weight[:hidden, :channels], self.reduce.bias[:hidden]),
            (self.expand.weight[:channels, :hidden], self.expand.bias[:channels]),
        )

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        return finish(squeeze_excite(inputs, spec, *self.tensors(spec)), spec.activation, residual)


class ElasticLinear(nn.Module):
    """Fully connected layer with elastic inputs."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        inputs = spec.in_channels * spec.in_size**2
        self.weight = nn.Parameter(torch.randn(spec.out_channels, inputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(spec.out_channels))

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer; inputs (batch, channels, 1, 1) or (batch, channels)."""
        weight = self.weight[:, : spec.in_channels * spec.in_size**2]
        return finish(F.linear(inputs.flatten(1), weight, self.bias), spec.activation)


class WindowPool(nn.Module):
    """Pooling of windows."""

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        return finish(window_pool(inputs, spec), spec.activation, residual)


class GlobalPool(nn.Module):
    """Mean over the map, kept as (batch, channels, 1, 1)."""

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        return finish(inputs.mean((2, 3), keepdim=True), spec.activation)


def elastic_layer(spec: LayerSpec, kernel_choices: tuple[int, ...], epsilon: float) -> nn.Module:
    """The elastic module that holds the weights of a layer of the largest network, whose window has these sizes."""
    match spec.kind:
        case "conv":
            return ElasticConv(spec, kernel_choices, epsilon)
        case "depthwise":
            return ElasticDepthwise(spec, kernel_choices, epsilon)
        case "squeeze_excite":
            return ElasticSqueezeExcite(spec)
        case "linear":
            return ElasticLinear(spec)
        case "max_pool" | "average_pool":
            return WindowPool()
        case "global_pool":
            return GlobalPool()
