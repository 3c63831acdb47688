"""Many images through copies of a network's library: the answers of torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement import classifier
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.model import Supernet


@pytest.mark.parametrize("copies", [1, 3])
def test_logits_are_those_of_torch(tiny_space, tiny_dataset, copies, monkeypatch):
    monkeypatch.setattr(classifier, "BATCH", 4)
    torch.manual_seed(0)
    evaluator = Evaluator(tiny_dataset, tiny_dataset.validation)
    subnet = evaluator.subnet(Supernet(tiny_space).eval(), tiny_space.largest)
    images = np.random.default_rng(0).standard_normal(
        (13, subnet.network.resolution, subnet.network.resolution, 3), np.float32
    )
    logits = Classifier(subnet.network, subnet.folded(), load_target("x86"), {}, copies)(images)
    with torch.inference_mode():
        expected = subnet(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_an_evaluator_asks_the_library(tiny_space, tiny_dataset):
    asked = []

    def library(network, weights):
        def logits(images):
            asked.append((network.resolution, images.shape))
            return np.eye(4, dtype=np.float32)[tiny_dataset.test.labels]

        return logits

    evaluator = Evaluator(replace(tiny_dataset), tiny_dataset.test, library=library)
    assert evaluator.top1(Supernet(tiny_space).eval(), tiny_space.smallest) == 1.0
    size = tiny_space.smallest.resolution
    assert asked == [(size, (40, size, size, 3))]
