"""The accuracy predictor against a made-up saturating accuracy with evaluation noise."""

import json

import numpy as np
import pytest

from ofa_tvm.accuracy.predictor import STEM, AccuracyPredictor, PredictorQuality
from ofa_tvm.regression.metrics import kendall_tau
from ofa_tvm.spaces import get_space
from ofa_tvm.spaces.subnet_table import QUANTITIES, SubnetTable
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.sealed import read_sealed, write_sealed

SPACE = get_space("mbv3-cifar")
NOISE = 0.002


def true_top1(genomes):
    """Uneven gains of blocks with diminishing returns and a little interaction of neighbours, 0.82 to 0.91."""
    rng = np.random.default_rng(11)
    weight = rng.uniform(0.2, 1.0, SPACE.blocks)
    resolution, _, kernel, expand = SPACE.split_genes(genomes)
    active = SPACE.active_blocks(genomes)
    gain = active * weight * (1 + 0.25 * np.sqrt(kernel) + 0.35 * np.sqrt(expand))
    together = 0.1 * (gain[:, 1:] * gain[:, :-1]).sum(axis=1)
    pixels = np.asarray(SPACE.resolutions)[resolution] / SPACE.resolutions[-1]
    return 0.94 - 0.3 * np.exp(-(gain.sum(axis=1) + together) / 5 - 0.6 * pixels)


@pytest.fixture(scope="module")
def table():
    return SubnetTable(SPACE)


@pytest.fixture(scope="module")
def samples():
    configs = SPACE.sample_configs(np.random.default_rng(5), 700)
    truth = true_top1(SPACE.genomes(configs))
    return configs, truth + NOISE * np.random.default_rng(6).standard_normal(len(configs))


@pytest.fixture(scope="module")
def predictor(table, samples):
    return AccuracyPredictor.fit(table, samples[0][:200], samples[1][:200])


@pytest.mark.seconds(20)
def test_orders_unseen_subnets(predictor, samples, table):
    configs, top1 = samples
    quality = predictor.evaluate(configs[200:], top1[200:])
    macs = table.quantities(SPACE.genomes(configs[200:]))[:, QUANTITIES.index("macs")]
    assert quality["kendall_tau"] > 0.8
    assert quality["kendall_tau"] > kendall_tau(macs, top1[200:]) + 0.1
    assert quality["spearman"] > 0.93
    assert quality["mae"] < 2 * NOISE
    assert 0.84 <= quality["interval_coverage"] <= 0.97
    assert predictor.out_of_fold_mae == pytest.approx(quality["mae"], rel=0.3)


def test_a_hundred_subnets_are_enough_to_be_useful(table, samples):
    configs, top1 = samples
    predictor = AccuracyPredictor.fit(table, configs[:100], top1[:100])
    assert predictor.evaluate(configs[200:], top1[200:])["kendall_tau"] > 0.75


def test_constant_accuracy_is_predicted_as_such(table, samples):
    predictor = AccuracyPredictor.fit(table, samples[0][:50], np.full(50, 0.5))
    mean, _, _ = predictor.predict(SPACE.genomes(samples[0][50:100]))
    assert np.allclose(mean, 0.5, atol=1e-3)
    assert predictor.evaluate(samples[0][50:100], np.full(50, 0.5))["kendall_tau"] == 0.0


def test_interval_is_a_fraction(table, samples):
    top1 = np.clip(samples[1] + 0.06, 0, 1)
    predictor = AccuracyPredictor.fit(table, samples[0][:100], top1[:100])
    mean, low, high = predictor.predict(SPACE.sample(np.random.default_rng(0), 10_000))
    assert mean.shape == (10_000,)
    assert [part.shape for part in predictor.predict(SPACE.sample(np.random.default_rng(0), 0))] == [(0,)] * 3
    assert (low >= 0).all()
    assert (high <= 1).all()
    assert (low <= high).all()


def test_saved_predictor_predicts_the_same(predictor, table, tmp_path):
    predictor.save(tmp_path, PredictorQuality(90, 10, 10, 0.8, 0.9, 0.01, 0.9, 0.02))
    genomes = SPACE.sample(np.random.default_rng(2), 500)
    loaded = AccuracyPredictor.load(tmp_path, table)
    assert all(map(np.array_equal, predictor.predict(genomes), loaded.predict(genomes)))
    assert json.loads((tmp_path / f"{STEM}.report.json").read_text())["report"]["kendall_tau"] == 0.8


def test_damaged_file_is_a_user_error(predictor, table, tmp_path):
    predictor.save(tmp_path)
    path = tmp_path / f"{STEM}.report.json"
    content = read_sealed(path, "predictor", "")
    for change, said in (
        ({"matrix": content["matrix"][1:]}, "damaged: matrix must hold"),
        ({"matrix": None}, "damaged"),
        ({"scores": "many"}, "damaged"),
        ({"matrix": [[10**400]]}, "digits"),
        ({"noise": -1.0}, "noise"),
        ({"schema_version": 1}, "schema"),
        ({"space": {}}, "another space"),
    ):
        write_sealed(path, {**content, **change})
        with pytest.raises(UserError, match=said):
            AccuracyPredictor.load(tmp_path, table)
    del content["noise"]
    write_sealed(path, content)
    with pytest.raises(UserError, match="noise"):
        AccuracyPredictor.load(tmp_path, table)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        AccuracyPredictor.load(tmp_path, table)


def test_an_edited_number_is_noticed(predictor, table, tmp_path):
    predictor.save(tmp_path)
    path = tmp_path / f"{STEM}.report.json"
    content = json.loads(path.read_text())
    content["matrix"][1][2] += 1e-9
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not what its hash says"):
        AccuracyPredictor.load(tmp_path, table)


def test_unusable_samples_are_refused(table, samples):
    configs, top1 = samples
    with pytest.raises(UserError, match="fractions"):
        AccuracyPredictor.fit(table, configs[:50], 100 * top1[:50])
    with pytest.raises(UserError, match="fractions"):
        AccuracyPredictor.fit(table, configs[:50], np.append(top1[:49], np.nan))
    with pytest.raises(UserError, match="too few"):
        AccuracyPredictor.fit(table, configs[:5], top1[:5])
