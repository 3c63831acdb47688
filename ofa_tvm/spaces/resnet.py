"""The OFA-ResNet50 family (Once-for-All's released supernet; He et al., CVPR 2016, with ResNet-D's stem and shortcuts).

The released supernet is elastic in width, too. A block's kernels then depend on the width of the stage before it, which
no table of blocks can hold; so each of its three widths is a space of its own, in which all stages have it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.spaces.inverted_residual import make_divisible
from ofa_tvm.spaces.space import SearchSpace, SubnetConfig
from ofa_tvm.support.files import Record

WIDTHS = (0.65, 0.8, 1.0)
STEM_WIDTH = 64
STAGE_WIDTHS = (256, 512, 1024, 2048)
STRIDES = (1, 2, 2, 2)
STEM_EXPAND = 20
"""Expand ratio that stands for the stem's convolutions, which have none."""


@dataclass(frozen=True, kw_only=True)
class BottleneckSpace(SearchSpace):
    """Residual blocks of three convolutions whose expand ratio is per cent of the block's output channels.

    The first stage is the stem: with depth 2 its middle convolution runs. A stage's first block has a shortcut of
    average pooling and a 1x1 convolution.

    Args:
        width: of all stages, as a share of ResNet-50's.
    """

    width: float

    def network(self, config: SubnetConfig) -> NetworkSpec:
        """The layers of a subnet; names carry the block's number in the largest network."""
        layers = self._stem(config)
        for stage, blocks in enumerate(config.stages[1:], 1):
            for position, (kernel_size, expand) in enumerate(blocks):
                stride = STRIDES[stage - 1] if position == 0 else 1
                out = make_divisible(STAGE_WIDTHS[stage - 1] * self.width)
                middle = make_divisible(round(out * expand / 100))
                name = f"block{self.block_index(stage, position)}"
                layers += _block(name, layers[-1], (middle, out), stride, kernel_size)
        last = layers[-1]
        pool = LayerSpec("pool", "global_pool", last.name, last.out_channels, last.out_channels, last.out_size)
        head = LayerSpec("classifier", "linear", "pool", last.out_channels, self.classes, 1, bias=True)
        return NetworkSpec(config.resolution, 3, self.classes, (*layers, pool, head))

    def to_ofa(self, config: SubnetConfig) -> Record:
        """OFA's arch dict; skipped positions carry the smallest choice."""
        expands: list[float] = []
        for number, stage in enumerate(config.stages[1:], 1):
            skipped = self.depths_of(number)[-1] - len(stage)
            expands += [expand / 100 for _, expand in stage] + [self.expand_choices[0] / 100] * skipped
        stem, *depths = config.depths
        added = [depth - least for depth, least in zip(depths, self.stage_least[1:], strict=True)]
        widths = [WIDTHS.index(self.width)] * 6
        return {"d": [2 if stem > 1 else 0, *added], "e": expands, "w": widths, "r": config.resolution}

    def _stem(self, config: SubnetConfig) -> list[LayerSpec]:
        out = make_divisible(STEM_WIDTH * self.width)
        middle = make_divisible(out // 2)
        size = config.resolution // 2
        first = LayerSpec("stem", "conv", INPUT, 3, middle, config.resolution, 3, 2, "relu", norm=True)
        layers = [first]
        if len(config.stages[0]) > 1:
            name = f"block{self.block_index(0, 1)}_middle"
            layers.append(LayerSpec(name, "conv", "stem", middle, middle, size, 3, 1, "relu", norm=True))
            layers.append(LayerSpec(identity_name(self), "conv", "stem", middle, middle, size, residual=name))
        name = f"block{self.block_index(0, 0)}_last"
        layers.append(LayerSpec(name, "conv", layers[-1].name, middle, out, size, 3, 1, "relu", norm=True))
        layers.append(LayerSpec("stem_pool", "max_pool", name, out, out, size, 3, 2))
        return layers


def identity_name(space: SearchSpace) -> str:
    """The stem's 1x1 convolution that passes a map on: a sum needs one, and the other has its activation already."""
    return f"block{space.block_index(0, 1)}_identity"


def _block(name: str, before: LayerSpec, channels: tuple[int, int], stride: int, kernel_size: int) -> list[LayerSpec]:
    """A residual block.

    Args:
        name: its layers' prefix.
        before: the layer that it reads.
        channels: inside and behind it.
        stride: of its middle convolution.
        kernel_size: likewise.
    """
    (middle, out), inputs, size = channels, before.out_channels, before.out_size
    small, shortcut = size // stride, before.name
    layers = []
    if stride > 1:
        layers.append(
            LayerSpec(
                f"{name}_shortcut_pool", "average_pool", shortcut, inputs, inputs, size, stride, stride, padding="none"
            )
        )
        shortcut = layers[-1].name
    if inputs != out:
        layers.append(LayerSpec(f"{name}_shortcut", "conv", shortcut, inputs, out, small, norm=True))
        shortcut = layers[-1].name
    expand, inner = f"{name}_expand", f"{name}_middle"
    return [
        *layers,
        LayerSpec(expand, "conv", before.name, inputs, middle, size, activation="relu", norm=True),
        LayerSpec(inner, "conv", expand, middle, middle, size, kernel_size, stride, "relu", norm=True),
        LayerSpec(f"{name}_project", "conv", inner, middle, out, small, 1, 1, "relu", norm=True, residual=shortcut),
    ]


def _of_width(width: float) -> BottleneckSpace:
    return BottleneckSpace(
        name="resnet50d" if width == 1 else f"resnet50d-w{width}",
        resolutions=(128, 160, 192, 224),
        depth_choices=(1, 2, 3, 4, 5, 6),
        kernel_choices=(3,),
        expand_choices=(20, 25, 35),
        stages=5,
        stage_blocks=(2, 4, 4, 6, 4),
        stage_least=(1, 2, 2, 4, 2),
        stage_expands=(STEM_EXPAND, 35, 35, 35, 35),
        classes=1000,
        width=width,
    )


RESNET50D_W065, RESNET50D_W08, RESNET50D = map(_of_width, WIDTHS)
