"""Networks of inverted residual blocks (Sandler et al., "MobileNetV2", CVPR 2018): what all such families share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ofa_tvm.graph.network import INPUT, Activation, Kind, LayerSpec, NetworkSpec, Padding
from ofa_tvm.spaces.space import SearchSpace, SubnetConfig


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, never more than 10 % down (MobileNet's channel rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Stage:
    """What is fixed in an elastic stage.

    Args:
        width: channels that its blocks give.
        stride: of its first block.
        activation: inside of blocks.
        squeeze_excite: whether they have squeeze-excite.
        is_fused: one full convolution expands and has the window, instead of a 1x1 and a depthwise one.
    """

    width: int
    stride: int
    activation: Activation
    squeeze_excite: bool
    is_fused: bool = False


@dataclass(frozen=True, kw_only=True)
class InvertedResidualSpace(SearchSpace):
    """Stem, a fixed block, elastic stages of inverted residual blocks, and a head.

    Args:
        stem_width: channels of the first convolution.
        stem_stride: its stride.
        first_width: channels of the fixed block behind it; 0 leaves it out.
        stage_plan: what is fixed in each elastic stage.
        final_width: channels of the 1x1 convolution before the global pooling.
        feature_mix_width: of the 1x1 layer behind it; 0 leaves it out.
        outer_activation: of stem and head.
        first_activation: of the fixed block.
        padding: of all windows.
    """

    stem_width: int
    stem_stride: int
    first_width: int
    stage_plan: tuple[Stage, ...]
    final_width: int
    feature_mix_width: int = 0
    outer_activation: Activation = "hard_swish"
    first_activation: Activation = "relu"
    padding: Padding = "centred"

    def network(self, config: SubnetConfig) -> NetworkSpec:
        """The layers of a subnet; names carry the block's number in the largest network."""
        layers = [
            LayerSpec(
                "stem",
                "conv",
                INPUT,
                in_channels=3,
                out_channels=self.stem_width,
                in_size=config.resolution,
                kernel_size=3,
                stride=self.stem_stride,
                activation=self.outer_activation,
                norm=True,
                padding=self.padding,
            )
        ]
        if self.first_width:
            first = Stage(self.first_width, 1, self.first_activation, squeeze_excite=False)
            self._add_block(layers, 0, first, stride=1, kernel_size=3, expand_ratio=1)
        for stage_index, (stage, blocks) in enumerate(zip(self.stage_plan, config.stages, strict=True)):
            for position, (kernel_size, expand_ratio) in enumerate(blocks):
                stride = stage.stride if position == 0 else 1
                number = self.block_index(stage_index, position)
                self._add_block(layers, number, stage, stride, kernel_size, expand_ratio)
        self._add_head(layers)
        return NetworkSpec(config.resolution, 3, self.classes, tuple(layers))

    def _add_block(
        self, layers: list[LayerSpec], number: int, stage: Stage, stride: int, kernel_size: int, expand_ratio: int
    ) -> None:
        before = layers[-1]
        inputs, size = before.out_channels, before.out_size
        middle = make_divisible(inputs * expand_ratio)
        name = f"block{number}"
        source, channels = before.name, inputs if stage.is_fused else middle
        if expand_ratio > 1 and not stage.is_fused:
            source = f"{name}_expand"
            layers.append(
                LayerSpec(source, "conv", before.name, inputs, middle, size, activation=stage.activation, norm=True)
            )
        kind: Kind = "conv" if stage.is_fused else "depthwise"
        window = LayerSpec(
            f"{name}_expand" if stage.is_fused else f"{name}_depthwise",
            kind,
            source,
            channels,
            middle,
            size,
            kernel_size,
            stride,
            stage.activation,
            norm=True,
            padding=self.padding,
        )
        layers.append(window)
        if stage.squeeze_excite:
            layers.append(
                LayerSpec(
                    f"{name}_se",
                    "squeeze_excite",
                    window.name,
                    middle,
                    middle,
                    window.out_size,
                    hidden_channels=make_divisible(middle // 4),
                )
            )
        residual = before.name if stride == 1 and inputs == stage.width else None
        layers.append(
            LayerSpec(
                f"{name}_project",
                "conv",
                layers[-1].name,
                middle,
                stage.width,
                window.out_size,
                norm=True,
                residual=residual,
            )
        )

    def _add_head(self, layers: list[LayerSpec]) -> None:
        last = layers[-1]
        layers.append(
            LayerSpec(
                "final_expand",
                "conv",
                last.name,
                last.out_channels,
                self.final_width,
                last.out_size,
                activation=self.outer_activation,
                norm=True,
            )
        )
        layers.append(
            LayerSpec("pool", "global_pool", "final_expand", self.final_width, self.final_width, last.out_size)
        )
        width = self.final_width
        if self.feature_mix_width:
            layers.append(
                LayerSpec(
                    "feature_mix", "conv", "pool", width, self.feature_mix_width, 1, activation=self.outer_activation
                )
            )
            width = self.feature_mix_width
        layers.append(LayerSpec("classifier", "linear", layers[-1].name, width, self.classes, 1, bias=True))


def widened(
    space: InvertedResidualSpace, name: str, multiplier: float, resolutions: tuple[int, ...]
) -> InvertedResidualSpace:
    """The space with every width multiplied (MobileNet's width multiplier) and other resolutions."""

    def wide(width: int) -> int:
        return make_divisible(width * multiplier) if width else 0

    return replace(
        space,
        name=name,
        resolutions=resolutions,
        stem_width=wide(space.stem_width),
        first_width=wide(space.first_width),
        stage_plan=tuple(replace(stage, width=wide(stage.width)) for stage in space.stage_plan),
        final_width=wide(space.final_width),
        feature_mix_width=wide(space.feature_mix_width),
    )
