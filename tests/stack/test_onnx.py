"""The ONNX export is valid and treats the images of a batch alike."""

import numpy as np
import onnx
import onnxruntime
import pytest

from ofa_tvm.graph.onnx_export import to_onnx
from ofa_tvm.graph.weights import random_weights
from ofa_tvm.spaces import SPACES


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_random_subnets_pass_the_checker(space):
    for config in space.sample_configs(np.random.default_rng(0), 3):
        network = space.network(config)
        model = to_onnx(network, random_weights(network), batch=2)
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == ["image"]
        assert [value.name for value in model.graph.output] == ["logits"]


def test_batch_runs_image_by_image():
    space = SPACES["mbv3-cifar"]
    network = space.network(space.smallest)
    weights = random_weights(network)
    images = np.random.default_rng(0).standard_normal((2, 3, network.resolution, network.resolution), np.float32)
    single = onnxruntime.InferenceSession(to_onnx(network, weights).SerializeToString())
    double = onnxruntime.InferenceSession(to_onnx(network, weights, batch=2).SerializeToString())
    apart = np.concatenate([single.run(None, {"image": images[i : i + 1]})[0] for i in range(2)])
    np.testing.assert_allclose(double.run(None, {"image": images})[0], apart, rtol=1e-4, atol=1e-4)
