"""Fused inverted residual blocks: networks of few, wide layers, meant for GPUs.

A full convolution expands and has the window, a 1x1 convolution projects: two launches a block, each of them a large
matrix product. Depthwise convolutions have few products for each number that they read, and leave a GPU idle. Blocks
like these are in EfficientNet-EdgeTPU (Gupta and Akin, "Accelerator-aware Neural Network Design using AutoML", 2020),
MobileDets (Xiong et al., CVPR 2021) and the first stages of EfficientNetV2 (Tan and Le, ICML 2021). Widths, depths and
choices are our own; all channels are multiples of 16, as tensor cores take them.
"""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, Stage
from ofa_tvm.spaces.mobilenet_v3 import MBV3, MBV3_CIFAR_LARGE


def _stages(widths: tuple[int, ...], strides: tuple[int, ...]) -> tuple[Stage, ...]:
    return tuple(
        Stage(width, stride, "relu", squeeze_excite=False, is_fused=True)
        for width, stride in zip(widths, strides, strict=True)
    )


FUSED = InvertedResidualSpace(
    name="fused",
    resolutions=MBV3.resolutions,
    depth_choices=(1, 2, 3),
    kernel_choices=(3, 5),
    expand_choices=(2, 3, 4),
    stages=5,
    classes=1000,
    stem_width=32,
    stem_stride=2,
    first_width=0,
    stage_plan=_stages((32, 48, 96, 128, 192), (2, 2, 2, 1, 2)),
    final_width=1280,
    outer_activation="relu",
)

FUSED_CIFAR = replace(
    FUSED,
    name="fused-cifar",
    resolutions=MBV3_CIFAR_LARGE.resolutions,
    stages=3,
    classes=10,
    stem_stride=1,
    stage_plan=_stages((32, 64, 128), (2, 2, 2)),
    final_width=512,
)
"""For pictures of 32 pixels."""
