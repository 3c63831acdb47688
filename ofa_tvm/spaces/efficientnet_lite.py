"""The EfficientNet-Lite family: MBConv without squeeze-excite, ReLU6, TensorFlow's padding.

Widths, depths and kernel sizes are those of Tan and Le, "EfficientNet" (ICML 2019), table 1, as Google's Lite variants
have them. Elastic subnets lie inside the published networks, so that training can start from their weights.
"""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, Stage

STRIDES = (2, 2, 2, 1, 2, 1)


def _stages(widths: tuple[int, ...]) -> tuple[Stage, ...]:
    return tuple(
        Stage(width, stride, "relu6", squeeze_excite=False) for width, stride in zip(widths, STRIDES, strict=True)
    )


EFFICIENTNET_LITE = InvertedResidualSpace(
    name="efficientnet-lite",
    resolutions=(96, 128, 160, 192, 224),
    depth_choices=(1, 2, 3, 4),
    kernel_choices=(3, 5),
    expand_choices=(3, 4, 6),
    stages=6,
    stage_blocks=(2, 2, 3, 3, 4, 1),
    stage_kernels=(3, 5, 3, 5, 5, 3),
    classes=1000,
    norm_epsilon=1e-3,
    stem_width=32,
    stem_stride=2,
    first_width=16,
    stage_plan=_stages((24, 40, 80, 112, 192, 320)),
    final_width=1280,
    outer_activation="relu6",
    first_activation="relu6",
    padding="tensorflow",
)
"""Its largest subnet is EfficientNet-Lite0."""

LITE1 = replace(
    EFFICIENTNET_LITE,
    name="efficientnet-lite1",
    resolutions=(240,),
    depth_choices=(1, 2, 3, 4, 5),
    stage_blocks=(3, 3, 4, 4, 5, 1),
)
LITE2 = replace(LITE1, name="efficientnet-lite2", resolutions=(260,), stage_plan=_stages((24, 48, 88, 120, 208, 352)))
"""Teachers: only their largest networks have weights."""
