"""NetworkSpec: the one description of a subnet that every builder reads.

The torch subnet, the Relax module, the ONNX file, MACs, features and kernels all come from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ofa_tvm.support.dtype import FLOAT32_BYTES

Kind = Literal["conv", "depthwise", "squeeze_excite", "max_pool", "average_pool", "global_pool", "linear"]
Activation = Literal["none", "relu", "relu6", "hard_swish", "hard_sigmoid", "silu", "sigmoid", "gelu"]
Padding = Literal["centred", "tensorflow", "none"]
"""Where zeros are added to a map: ``kernel_size // 2`` on each side, as TensorFlow's SAME does, or nowhere."""
WINDOWED = ("conv", "depthwise", "max_pool", "average_pool")
"""Kinds of layers whose ``kernel_size``, ``stride`` and ``padding`` count."""

INPUT = "input"


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer: ``y = activation(norm(op(x)) + residual)``.

    Maps are square; ``in_size`` and ``out_size`` are heights in pixels. ``squeeze_excite`` is pool, 1x1 conv to
    ``hidden_channels``, ``hidden_activation``, 1x1 conv, ``gate``, and the product with its input. A ``linear`` layer
    reads a flattened map of ``in_size`` pixels, channels first. A ``conv`` has ``groups``. ``input`` and ``residual``
    name earlier layers.
    """

    name: str
    kind: Kind
    input: str
    in_channels: int
    out_channels: int
    in_size: int
    kernel_size: int = 1
    stride: int = 1
    activation: Activation = "none"
    norm: bool = False
    bias: bool = False
    residual: str | None = None
    hidden_channels: int = 0
    padding: Padding = "centred"
    groups: int = 1
    hidden_activation: Activation = "relu"
    gate: Activation = "hard_sigmoid"

    @property
    def is_shifted(self) -> bool:
        """Whether the window begins one pixel later than centred: at stride 2 on even maps, padded as by TensorFlow."""
        return self.padding == "tensorflow" and self.kernel_size > 1 and self.stride == 2 and self.in_size % 2 == 0

    @property
    def pads(self) -> tuple[int, int]:
        """Zeros before and behind the map in each direction."""
        if self.padding == "none":
            return 0, 0
        before = self.kernel_size // 2 - self.is_shifted
        return before, self.kernel_size // 2

    @property
    def out_size(self) -> int:
        """Height of the output map in pixels (1 for pooling and linear layers)."""
        if self.kind in ("global_pool", "linear"):
            return 1
        return (self.in_size + 2 * self.pads[1] - self.kernel_size) // self.stride + 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, convolutions and linear layers only."""
        pixels = self.out_size**2
        match self.kind:
            case "conv":
                return pixels * self.kernel_size**2 * (self.in_channels // self.groups) * self.out_channels
            case "linear":
                return self.in_size**2 * self.in_channels * self.out_channels
            case "depthwise":
                return pixels * self.kernel_size**2 * self.out_channels
            case "squeeze_excite":
                return 2 * self.in_channels * self.hidden_channels
            case _:
                return 0

    @property
    def parameters(self) -> int:
        """Trainable numbers: weights, biases, and the scale and shift of batch norm."""
        affine = 2 * self.out_channels if self.norm else self.out_channels if self.bias else 0
        match self.kind:
            case "conv":
                return self.kernel_size**2 * (self.in_channels // self.groups) * self.out_channels + affine
            case "linear":
                return self.in_size**2 * self.in_channels * self.out_channels + affine
            case "depthwise":
                return self.kernel_size**2 * self.out_channels + affine
            case "squeeze_excite":
                return 2 * self.in_channels * self.hidden_channels + self.hidden_channels + self.in_channels
            case _:
                return 0

    @property
    def out_elements(self) -> int:
        """Numbers in the output of one image."""
        return self.out_size**2 * self.out_channels


@dataclass(frozen=True)
class NetworkSpec:
    """A subnet as a tuple of layers in the order in which they run.

    Args:
        resolution: input height and width in pixels.
        in_channels: input channels.
        classes: outputs of the last layer.
        layers: the layers; each reads outputs of earlier ones (or ``INPUT``).
    """

    resolution: int
    in_channels: int
    classes: int
    layers: tuple[LayerSpec, ...]

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def parameters(self) -> int:
        """Trainable numbers of the network."""
        return sum(layer.parameters for layer in self.layers)

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of the weights with batch norm folded (weight and bias of each layer, f32)."""
        folded = sum(layer.parameters - (layer.out_channels if layer.norm else 0) for layer in self.layers)
        return FLOAT32_BYTES * folded

    @cached_property
    def last_use(self) -> dict[str, int]:
        """Index of the last layer that reads each tensor."""
        uses = {INPUT: 0}
        for index, layer in enumerate(self.layers):
            uses[layer.name] = index
            uses[layer.input] = index
            if layer.residual is not None:
                uses[layer.residual] = index
        return uses

    @cached_property
    def alive_bytes(self) -> tuple[int, ...]:
        """Sum of the tensors alive while each layer runs, f32, one image.

        These are its inputs, its output and every tensor that a later layer still reads.
        """
        alive = {INPUT: self.resolution**2 * self.in_channels}
        sums = []
        for index, layer in enumerate(self.layers):
            alive[layer.name] = layer.out_elements
            sums.append(FLOAT32_BYTES * sum(alive.values()))
            alive = {name: size for name, size in alive.items() if self.last_use[name] > index}
        return tuple(sums)

    @property
    def peak_activation_bytes(self) -> int:
        """Largest sum of tensors alive at once, f32, one image."""
        return max(self.alive_bytes)
