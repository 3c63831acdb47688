"""The OFA-MobileNetV3 family (Cai et al., ICLR 2020, section 4.1; Howard et al., ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ofa_tvm.graph.network import INPUT, Activation, LayerSpec, NetworkSpec
from ofa_tvm.spaces.space import SearchSpace, SubnetConfig


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, never more than 10 % down (MobileNet's channel rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class Stage:
    """What is fixed in an elastic stage."""

    width: int
    stride: int
    activation: Activation
    squeeze_excite: bool


@dataclass(frozen=True)
class MobileNetV3Space(SearchSpace):
    """Stem, one fixed block, elastic stages of inverted residual blocks, and a head.

    ``feature_mix_width`` is the 1x1 layer behind the global pooling (0 leaves it out).
    """

    stem_width: int
    stem_stride: int
    first_width: int
    stage_plan: tuple[Stage, ...]
    final_width: int
    feature_mix_width: int

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
                activation="hard_swish",
                norm=True,
            )
        ]
        first = Stage(self.first_width, 1, "relu", squeeze_excite=False)
        self._add_block(layers, 0, first, stride=1, kernel_size=3, expand_ratio=1)
        for stage_index, (stage, blocks) in enumerate(zip(self.stage_plan, config.stages, strict=True)):
            for position, (kernel_size, expand_ratio) in enumerate(blocks):
                stride = stage.stride if position == 0 else 1
                number = self.block_index(stage_index, position)
                self._add_block(layers, number, stage, stride, kernel_size, expand_ratio)
        self._add_head(layers)
        return NetworkSpec(config.resolution, 3, self.classes, tuple(layers))

    @staticmethod
    def _add_block(
        layers: list[LayerSpec], number: int, stage: Stage, stride: int, kernel_size: int, expand_ratio: int
    ) -> None:
        before = layers[-1]
        inputs, size = before.out_channels, before.out_size
        middle = make_divisible(inputs * expand_ratio)
        name = f"block{number}"
        source = before.name
        if expand_ratio > 1:
            source = f"{name}_expand"
            layers.append(
                LayerSpec(source, "conv", before.name, inputs, middle, size, activation=stage.activation, norm=True)
            )
        depthwise = LayerSpec(
            f"{name}_depthwise",
            "depthwise",
            source,
            middle,
            middle,
            size,
            kernel_size,
            stride,
            stage.activation,
            norm=True,
        )
        layers.append(depthwise)
        if stage.squeeze_excite:
            layers.append(
                LayerSpec(
                    f"{name}_se",
                    "squeeze_excite",
                    depthwise.name,
                    middle,
                    middle,
                    depthwise.out_size,
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
                depthwise.out_size,
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
                activation="hard_swish",
                norm=True,
            )
        )
        layers.append(
            LayerSpec("pool", "global_pool", "final_expand", self.final_width, self.final_width, last.out_size)
        )
        width = self.final_width
        if self.feature_mix_width:
            layers.append(
                LayerSpec("feature_mix", "conv", "pool", width, self.feature_mix_width, 1, activation="hard_swish")
            )
            width = self.feature_mix_width
        layers.append(LayerSpec("classifier", "linear", layers[-1].name, width, self.classes, 1, bias=True))


def widened(space: MobileNetV3Space, name: str, multiplier: float, resolutions: tuple[int, ...]) -> MobileNetV3Space:
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


MBV3 = MobileNetV3Space(
    name="mbv3",
    resolutions=tuple(range(128, 225, 4)),
    depth_choices=(2, 3, 4),
    kernel_choices=(3, 5, 7),
    expand_choices=(3, 4, 6),
    stages=5,
    classes=1000,
    stem_width=16,
    stem_stride=2,
    first_width=16,
    stage_plan=(
        Stage(24, 2, "relu", squeeze_excite=False),
        Stage(40, 2, "relu", squeeze_excite=True),
        Stage(80, 2, "hard_swish", squeeze_excite=False),
        Stage(112, 1, "hard_swish", squeeze_excite=True),
        Stage(160, 2, "hard_swish", squeeze_excite=True),
    ),
    final_width=960,
    feature_mix_width=1280,
)

MBV3_W12 = widened(MBV3, "mbv3-w1.2", 1.2, resolutions=(160, 176, 192, 208, 224))
"""The space of OFA's published accuracy predictor and Note10 latency tables, at the tutorial's resolutions."""

MBV3_SMALL = MobileNetV3Space(
    name="mbv3-small",
    resolutions=(64, 80, 96, 112, 128, 144, 160),
    depth_choices=(1, 2, 3),
    kernel_choices=(3, 5, 7),
    expand_choices=(2, 3, 4),
    stages=4,
    classes=10,
    stem_width=16,
    stem_stride=2,
    first_width=16,
    stage_plan=(
        Stage(24, 2, "relu", squeeze_excite=False),
        Stage(40, 2, "hard_swish", squeeze_excite=True),
        Stage(64, 2, "hard_swish", squeeze_excite=True),
        Stage(96, 1, "hard_swish", squeeze_excite=True),
    ),
    final_width=480,
    feature_mix_width=0,
)
"""For pictures of 64 to 160 pixels on small boards."""

MBV3_CIFAR = MobileNetV3Space(
    name="mbv3-cifar",
    resolutions=(24, 28, 32),
    depth_choices=(2, 3),
    kernel_choices=(3, 5, 7),
    expand_choices=(2, 3, 4),
    stages=3,
    classes=10,
    stem_width=16,
    stem_stride=1,
    first_width=16,
    stage_plan=(
        Stage(24, 2, "relu", squeeze_excite=False),
        Stage(48, 2, "hard_swish", squeeze_excite=True),
        Stage(96, 2, "hard_swish", squeeze_excite=True),
    ),
    final_width=384,
    feature_mix_width=0,
)

MBV3_CIFAR_LARGE = replace(
    MBV3_CIFAR,
    name="mbv3-cifar-large",
    resolutions=(20, 24, 28, 32),
    depth_choices=(1, 2, 3, 4),
    expand_choices=(2, 3, 4, 6),
    stem_width=24,
    first_width=24,
    stage_plan=(
        Stage(40, 2, "relu", squeeze_excite=False),
        Stage(72, 2, "hard_swish", squeeze_excite=True),
        Stage(136, 2, "hard_swish", squeeze_excite=True),
    ),
    final_width=640,
)
"""For pictures of 32 pixels where there is more to spend: wider, deeper, and with more to choose from."""
