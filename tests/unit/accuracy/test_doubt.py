"""What is said of accuracies that images are too few to tell apart."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest

from ofa_tvm.accuracy.doubt import doubts
from ofa_tvm.accuracy.predictor import PredictorQuality
from ofa_tvm.accuracy.samples import AccuracySamples
from ofa_tvm.spaces import get_space
from ofa_tvm.supernet.plan import Plan

SPACE = get_space("mbv3-cifar")


def doubted(tmp_path, top1, images, tau=1.0):
    samples = AccuracySamples(SPACE, tmp_path, "weights")
    configs = SPACE.sample_configs(np.random.default_rng(0), len(top1))
    samples.add(configs, list(top1))
    quality = PredictorQuality(**{**dict.fromkeys(PredictorQuality.__dataclass_fields__, 1), "kendall_tau": tau})
    return doubts(samples, images, quality)


@pytest.mark.parametrize(
    ("top1", "images", "said"),
    [
        ([0.1] * 30, 5000, "which guessing among 10 classes gives, too: nothing was learned"),
        ([0.1, 0.12, 0.05] * 10, 40, "nothing was learned"),
        (
            [0.9, 0.92, 0.88] * 10,
            40,
            "is chance; which of them is better is not known; more training images would tell",
        ),
        ([0.7, 0.9, 0.8] * 10, 40, "beyond that: much of a pick's accuracy is chance; about"),
    ],
)
def test_what_is_doubted_is_said(tmp_path, top1, images, said):
    (sentence,) = doubted(tmp_path, top1, images)
    assert said in sentence
    for setting in re.findall(r"--set (\w+)=", sentence):
        assert setting in {field.name for field in fields(Plan)}


def test_enough_images_are_not_doubted(tmp_path):
    assert doubted(tmp_path, [0.7, 0.9, 0.8] * 10, 5000) == []
    (weak,) = doubted(tmp_path, [0.7, 0.9, 0.8] * 10, 5000, tau=0.2)
    assert "orders subnets weakly (Kendall tau 0.20)" in weak
