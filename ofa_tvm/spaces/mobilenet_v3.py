"""The OFA-MobileNetV3 family (Cai et al., ICLR 2020, section 4.1; Howard et al., ICCV 2019)."""

from __future__ import annotations

from dataclasses import replace

from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, Stage, widened

MBV3 = InvertedResidualSpace(
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

MBV3_SMALL = InvertedResidualSpace(
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

MBV3_CIFAR = InvertedResidualSpace(
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
"""For pictures of 32 pixels with a larger compute budget: wider, deeper, and with more choices."""
