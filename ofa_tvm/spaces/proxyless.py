"""The OFA-ProxylessNAS family: no squeeze-excite, ReLU6, and one single block at the end (Cai et al., ICLR 2020)."""

from __future__ import annotations

from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, Stage, widened

STRIDES = (2, 2, 2, 1, 2, 1)
WIDTHS = (24, 40, 80, 96, 192, 320)

PROXYLESS = widened(
    InvertedResidualSpace(
        name="proxyless-w1.0",
        resolutions=tuple(range(128, 225, 4)),
        depth_choices=(2, 3, 4),
        kernel_choices=(3, 5, 7),
        expand_choices=(3, 4, 6),
        stages=6,
        stage_blocks=(4, 4, 4, 4, 4, 1),
        classes=1000,
        norm_epsilon=1e-3,
        stem_width=32,
        stem_stride=2,
        first_width=16,
        stage_plan=tuple(
            Stage(width, stride, "relu6", squeeze_excite=False) for width, stride in zip(WIDTHS, STRIDES, strict=True)
        ),
        final_width=1280,
        outer_activation="relu6",
        first_activation="relu6",
    ),
    "proxyless",
    1.3,
    resolutions=tuple(range(128, 225, 4)),
)
"""The published width."""
