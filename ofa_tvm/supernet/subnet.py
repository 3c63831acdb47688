"""A subnet on its own: weights cut out of the supernet, batch norm recalibrated, folded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ofa_tvm.graph.network import LayerSpec, NetworkSpec
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.supernet.depthwise import depthwise_conv2d, padded_conv2d
from ofa_tvm.supernet.elastic import (
    ElasticConv,
    ElasticDepthwise,
    ElasticLinear,
    ElasticNorm,
    ElasticSqueezeExcite,
    Layer,
    run,
    squeeze_excite,
)
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.norm_activation import finish, norm_activate


class Norm(nn.Module):
    """Batch norm that, while ``calibrating``, averages the batches' statistics (OFA's recalibration)."""

    def __init__(self, source: ElasticNorm, channels: int) -> None:
        super().__init__()
        self.calibrating = False
        self.batches = 0
        self.epsilon = source.epsilon
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(source, name)[:channels].detach().clone())
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None) -> Tensor:
        """Normalise (batch, channels, height, width), and what follows in the layer."""
        statistics, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        if not self.calibrating:
            return norm_activate(inputs, statistics, affine, spec.activation, residual, False, epsilon=self.epsilon)
        self.batches += 1
        batch = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        output = norm_activate(inputs, batch, affine, spec.activation, residual, True, 1.0, self.epsilon)
        count = inputs.numel() / inputs.shape[1]
        self.running_mean.lerp_(batch[0], 1 / self.batches)
        self.running_var.lerp_(batch[1] * ((count - 1) / count), 1 / self.batches)  # OFA's variance is the biased one
        return output

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map that the norm is at inference."""
        scale = self.weight * torch.rsqrt(self.running_var + self.epsilon)
        return scale, self.bias - self.running_mean * scale


class Conv(nn.Module):
    """Convolution, depthwise or full, with its norm."""

    def __init__(self, weight: Tensor, bias: Tensor | None, norm: Norm | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.weight: Tensor
        self.bias: Tensor | None
        self.norm = norm

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        if spec.kind == "depthwise":
            output = depthwise_conv2d(inputs, self.weight, spec.stride, spec.pads, self.bias)
        else:
            output = padded_conv2d(inputs, self.weight, spec.stride, spec.pads, spec.groups, self.bias)
        if self.norm is None:
            return finish(output, spec.activation, residual)
        normed: Tensor = self.norm(output, spec, residual)
        return normed

    def folded(self) -> dict[str, Tensor]:
        """Weight and bias with the norm folded in."""
        if self.norm is None:
            return {"weight": self.weight, **({} if self.bias is None else {"bias": self.bias})}
        scale, shift = self.norm.scale_and_shift()
        return {"weight": self.weight * scale[:, None, None, None], "bias": shift}


class SqueezeExcite(nn.Module):
    """Squeeze-excite of fixed width."""

    def __init__(self, reduce: tuple[Tensor, Tensor], expand: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.reduce = nn.ParameterList([tensor.detach().clone() for tensor in reduce])
        self.expand = nn.ParameterList([tensor.detach().clone() for tensor in expand])

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        return squeeze_excite(inputs, spec, (self.reduce[0], self.reduce[1]), (self.expand[0], self.expand[1]))

    def folded(self) -> dict[str, Tensor]:
        """Weights as (out, in) matrices, and biases."""
        return {
            "reduce.weight": self.reduce[0].flatten(1),
            "reduce.bias": self.reduce[1],
            "expand.weight": self.expand[0].flatten(1),
            "expand.bias": self.expand[1],
        }


class Linear(nn.Module):
    """Fully connected layer of fixed width."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, inputs: Tensor, spec: LayerSpec, residual: Tensor | None = None) -> Tensor:
        """Run as the given layer."""
        return finish(F.linear(inputs.flatten(1), self.weight, self.bias), spec.activation)

    def folded(self) -> dict[str, Tensor]:
        """Weight and bias."""
        return {"weight": self.weight, "bias": self.bias}


class Subnet(nn.Module):
    """A static network with its own copy of the weights; not for training."""

    def __init__(self, network: NetworkSpec, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleDict(layers)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, 3, resolution, resolution)."""
        return run(self.network, images, lambda name: cast(Layer, self.layers[name]))

    @torch.inference_mode()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set batch-norm statistics to the mean over batches of images of this resolution."""
        norms = [module for module in self.modules() if isinstance(module, Norm)]
        for norm in norms:
            norm.calibrating, norm.batches = True, 0
        for images in batches:
            self(images)
        for norm in norms:
            norm.calibrating = False

    def folded(self) -> dict[str, NDArray[np.float32]]:
        """Folded weights of all layers (see ``graph.weights``)."""
        arrays = {}
        for name, layer in self.layers.items():
            if isinstance(layer, Conv | SqueezeExcite | Linear):
                for part, tensor in layer.folded().items():
                    arrays[f"{name}.{part}"] = np.ascontiguousarray(tensor.detach().numpy())
        return arrays


def _cut(source: nn.Module, spec: LayerSpec) -> nn.Module:
    match source:
        case ElasticConv() | ElasticDepthwise():
            norm = None if source.norm is None else Norm(source.norm, spec.out_channels)
            bias = None if source.bias is None else source.bias[: spec.out_channels]
            return Conv(source.kernel(spec), bias, norm)
        case ElasticSqueezeExcite():
            return SqueezeExcite(*source.tensors(spec))
        case ElasticLinear():
            return Linear(source.weight[:, : spec.in_channels * spec.in_size**2], source.bias)
        case _:
            return source


def extract(supernet: Supernet, config: SubnetConfig) -> Subnet:
    """Cut a subnet out of the supernet. Its batch norms still need calibrating."""
    network = supernet.space.network(config)
    return Subnet(network, {spec.name: _cut(supernet.layers[spec.name], spec) for spec in network.layers})
