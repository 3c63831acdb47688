"""A space and a data set that everything takes no time with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ofa_tvm.data.dataset import Dataset, Preprocess, Split
from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace, Stage
from ofa_tvm.spaces.mobilenet_v3 import MBV3_CIFAR


def space() -> InvertedResidualSpace:
    """A space of 3,528 subnets that run in a millisecond."""
    return replace(
        MBV3_CIFAR,
        name="tiny",
        resolutions=(12, 16),
        depth_choices=(1, 2),
        kernel_choices=(3, 5, 7),
        expand_choices=(2, 4),
        stages=2,
        classes=4,
        stem_width=8,
        first_width=8,
        stage_plan=(Stage(8, 2, "relu", squeeze_excite=False), Stage(16, 2, "hard_swish", squeeze_excite=True)),
        final_width=32,
    )


def fused() -> InvertedResidualSpace:
    """The same with full convolutions instead of depthwise ones."""
    one = space()
    stages = tuple(replace(stage, is_fused=True) for stage in one.stage_plan)
    return replace(one, name="tiny-fused", first_width=0, stage_plan=stages)


def dataset() -> Dataset:
    """Noise around one colour for each of four classes, 16x16."""
    rng = np.random.default_rng(7)
    colours = np.asarray([(200, 60, 60), (60, 200, 60), (60, 60, 200), (180, 180, 60)])

    def split(count: int) -> Split:
        labels = np.arange(count) % 4
        noise = rng.normal(0, 60, (count, 16, 16, 3))
        return Split((colours[labels][:, None, None] + noise).clip(0, 255).astype(np.uint8), labels)

    preprocess = Preprocess(mean=(0.5, 0.5, 0.4), std=(0.3, 0.3, 0.3))
    return Dataset("tiny", ("red", "green", "blue", "yellow"), preprocess, split(160), split(40), held_out=32)
