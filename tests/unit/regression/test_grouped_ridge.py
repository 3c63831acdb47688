import numpy as np
import pytest

from ofa_tvm.regression.grouped_ridge import GroupedRidge

COLUMNS = 60
GROUPS = [0] * 3 + [1] * 57


def samples(count, noise=0.01, seed=0):
    """Only the first group matters."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, COLUMNS))
    truth = np.r_[1.0, -0.5, 0.25, np.zeros(COLUMNS - 3)]
    return features, features @ truth + noise * rng.standard_normal(count), truth


def test_a_group_that_explains_nothing_is_switched_off_with_fewer_samples_than_columns():
    features, target, truth = samples(20)
    fitted = GroupedRidge.fit(features, target, GROUPS)
    assert np.allclose(fitted.coefficients, truth, atol=0.03)
    assert np.abs(fitted.coefficients[3:]).max() < 0.01
    one_group = GroupedRidge.fit(features, target, [0] * COLUMNS)
    assert np.abs(one_group.coefficients - truth).max() > 5 * np.abs(fitted.coefficients - truth).max()


def test_noise_is_estimated():
    for noise in (0.003, 0.03):
        features, target, _ = samples(300, noise)
        assert GroupedRidge.fit(features, target, GROUPS).noise == pytest.approx(noise, rel=0.5)


def test_unseen_predictions_are_those_of_a_fit_without_the_sample():
    features, target, _ = samples(40)
    fitted = GroupedRidge.fit(features, target, GROUPS)
    for row in (0, 17, 39):
        kept = np.arange(40) != row
        alone = GroupedRidge.fit(features[kept], target[kept], GROUPS).predict(features[row : row + 1])[0]
        assert fitted.unseen[row] == pytest.approx(alone, abs=0.01)


def test_outliers_hardly_count():
    features, target, truth = samples(100)
    spoilt = target.copy()
    spoilt[:5] += 3.0
    fitted = GroupedRidge.fit(features, spoilt, GROUPS)
    assert np.abs(fitted.coefficients - truth).max() < 0.05
    least_squares = np.linalg.lstsq(features, spoilt, rcond=None)[0]
    assert np.abs(least_squares - truth).max() > 0.2


def test_a_column_of_zeros_changes_nothing():
    features, target, _ = samples(30)
    plain = GroupedRidge.fit(features, target, GROUPS)
    wider = GroupedRidge.fit(np.c_[features, np.zeros(30)], target, [*GROUPS, 2])
    assert np.allclose(wider.coefficients[:COLUMNS], plain.coefficients, atol=1e-3)
    assert wider.coefficients[-1] == 0
