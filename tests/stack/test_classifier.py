"""Many images through copies of a network's library: the answers of torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.quantisation import untrained_weights
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement import classifier
from ofa_tvm.measurement.classifier import Classifier, classifiers
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


@pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")
def test_this_cpu_stands_in_for_others_in_int8_alone(tiny_space, monkeypatch):
    monkeypatch.setattr(classifier, "BATCH", 4)
    in_float32 = load_target("arm", device="estimate")
    assert classifiers(in_float32, {}, 2) is None
    library = classifiers(in_float32.model_copy(update={"dtype": "int8"}), {}, 2)
    assert library is not None
    network = tiny_space.network(tiny_space.smallest)
    weights = untrained_weights(network, "int8")
    images = np.random.default_rng(0).standard_normal((3, network.resolution, network.resolution, 3), np.float32)
    np.testing.assert_array_equal(library(network, weights)(images), network_logits(network, weights, images))


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
