"""OFA's accuracy predictor: a file of random weights against a forward pass written out, and the real one if there."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.accuracy.ofa_predictor import BIAS, OfaPredictor
from ofa_tvm.regression.metrics import spearman
from ofa_tvm.spaces import get_space
from ofa_tvm.support.errors import UserError

SPACE = get_space("mbv3-w1.2")
SIZES = (128, 400, 400, 400, 1)
OFFICIAL = os.environ.get("OFA_TVM_OFFICIAL_DATA")


def random_weights(seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for layer, (inputs, outputs) in zip(("0", "2", "4", "6"), pairwise(SIZES), strict=True):
        arrays[f"{layer}.weight"] = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        arrays[f"{layer}.bias"] = (0.1 * rng.standard_normal(outputs)).astype(np.float32)
    return arrays


def forward(arrays, config):
    """The published use of the network: OFA's lists of choices, where skipped blocks have none."""
    ofa = SPACE.to_ofa(config)
    features = np.zeros(128)
    for block in range(20):
        if block % 4 < ofa["d"][block // 4]:
            features[3 * block + [3, 5, 7].index(ofa["ks"][block])] = 1
            features[60 + 3 * block + [3, 4, 6].index(ofa["e"][block])] = 1
    features[120 + (config.resolution - 112) // 16] = 1
    for layer in ("0", "2", "4"):
        features = np.maximum(arrays[f"{layer}.weight"].astype(float) @ features + arrays[f"{layer}.bias"], 0)
    return float((arrays["6.weight"].astype(float) @ features + arrays["6.bias"])[0])


@pytest.fixture
def path(tmp_path):
    np.savez(tmp_path / "weights.npz", **random_weights())
    return tmp_path / "weights.npz"


def test_predicts_what_a_forward_pass_gives(path):
    configs = [SPACE.smallest, SPACE.largest, *SPACE.sample_configs(np.random.default_rng(1), 60)]
    expected = [forward(random_weights(), config) for config in configs]
    predicted = OfaPredictor.load(path).predict(SPACE.genomes(configs))
    assert predicted.dtype == np.float64
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    assert np.std(predicted) > 1e-3


def test_populations_are_taken_in_parts(path):
    predictor = OfaPredictor.load(path)
    genomes = SPACE.sample(np.random.default_rng(0), 9000)
    np.testing.assert_allclose(predictor.predict(genomes)[-10:], predictor.predict(genomes[-10:]), atol=1e-5)
    assert predictor.predict(genomes[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"2.bias": None}, "no array 2.bias"),
        ({"4.weight": np.zeros((400, 300), np.float32)}, r"4.weight has shape \(400, 300\), not \(400, 400\)"),
        ({"6.bias": np.zeros(2, np.float32)}, r"6.bias has shape \(2,\), not \(1,\)"),
        ({"0.bias": np.full(400, np.nan, np.float32)}, "0.bias must hold finite numbers"),
        ({"0.bias": np.full(400, "x")}, "0.bias must hold finite numbers"),
        ({"8.bias": np.zeros(1, np.float32)}, "9 arrays, not 8"),
        ({"0.bias": np.asarray([None] * 400)}, "cannot be read"),
    ],
)
def test_files_of_other_networks_are_refused(tmp_path, change, said):
    arrays = {name: array for name, array in (random_weights() | change).items() if array is not None}
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(UserError, match=said):
        OfaPredictor.load(tmp_path / "weights.npz")


def test_missing_and_damaged_files_are_user_errors(path):
    with pytest.raises(UserError, match="does not exist"):
        OfaPredictor.load(path.with_name("none.npz"))
    for content in (b"", b"not a zip", path.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            OfaPredictor.load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(UserError, match="cannot be read"):
        OfaPredictor.load(path.with_suffix(".npy"))


def test_other_spaces_are_refused(path):
    with pytest.raises(UserError, match=r"does not know space mbv3\n.*mbv3-w1.2"):
        OfaPredictor.load(path, get_space("mbv3"))
    assert OfaPredictor.load(path, SPACE.with_classes(10)).space.classes == 10


@pytest.mark.skipif(OFFICIAL is None, reason="OFA_TVM_OFFICIAL_DATA does not name the folder of OFA's own files")
def test_published_weights_agree_with_a_forward_pass_and_like_size():
    assert OFFICIAL is not None
    path = Path(OFFICIAL) / "acc_predictor_w1.2.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    configs = SPACE.sample_configs(np.random.default_rng(1), 100)
    predicted = OfaPredictor.load(path).predict(SPACE.genomes(configs))
    np.testing.assert_allclose(predicted, [forward(arrays, config) for config in configs], atol=1e-5)
    assert ((predicted > 0.7) & (predicted < 0.9)).all()
    macs = [SPACE.network(config).macs for config in configs]
    assert spearman(predicted, np.asarray(macs)) > 0.5
    assert "6 points" in BIAS
