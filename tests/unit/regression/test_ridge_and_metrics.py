"""Ridge regression, the stacked model's parts and the conformal quantile, against their definitions."""

import math

import numpy as np
import pytest

from ofa_tvm.regression.metrics import conformal_quantile, kendall_tau, mape, spearman
from ofa_tvm.regression.ridge import Ridge


def test_leave_one_out_is_what_leaving_one_out_gives():
    rng = np.random.default_rng(0)
    features = np.concatenate([np.ones((30, 1)), rng.standard_normal((30, 6)) * [1, 10, 100, 1, 1, 1]], axis=1)
    target = features @ rng.standard_normal(7) + rng.standard_normal(30)
    ridge, unseen = Ridge.fit(features, target, free=1)
    scale = np.sqrt((features**2).sum(axis=0))
    scale[0] /= 1e3
    for row in range(30):
        kept = np.arange(30) != row
        scaled = features[kept] / scale
        solved = np.linalg.solve(scaled.T @ scaled + ridge.penalty * np.eye(7), scaled.T @ target[kept])
        assert features[row] / scale @ solved == pytest.approx(unseen[row], rel=1e-6, abs=1e-6)


def test_noise_is_shrunk_and_signal_is_not():
    rng = np.random.default_rng(1)
    features = np.concatenate([np.ones((40, 1)), rng.standard_normal((40, 100))], axis=1)
    noise, _ = Ridge.fit(features, 5 + rng.standard_normal(40), free=1)
    assert noise.coefficients[0] == pytest.approx(5, abs=0.5)
    assert np.abs(noise.coefficients[1:]).max() < 0.2
    exact, _ = Ridge.fit(features[:, :5], features[:, :5] @ np.arange(5.0), free=1)
    assert np.allclose(exact.coefficients, np.arange(5.0), atol=1e-3)


def test_repeated_and_empty_columns_do_no_harm():
    rng = np.random.default_rng(2)
    column = rng.standard_normal((20, 1))
    features = np.concatenate([np.ones((20, 1)), column, column, np.zeros((20, 1))], axis=1)
    ridge, unseen = Ridge.fit(features, 1 + 2 * column[:, 0], free=1)
    assert np.isfinite(ridge.coefficients).all()
    assert np.allclose(unseen, 1 + 2 * column[:, 0], atol=1e-2)


def test_conformal_quantile_counts_the_fresh_score():
    scores = np.arange(1.0, 20.0)
    assert conformal_quantile(scores, 0.9) == 18
    assert conformal_quantile(scores, 0.95) == 19
    assert conformal_quantile(scores[:8], 0.9) == math.inf
    assert conformal_quantile(scores[:9], 0.9) == 9


def test_correlations_and_errors():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(values, values**3) == pytest.approx(1)
    assert kendall_tau(values, -values) == pytest.approx(-1)
    assert kendall_tau(np.ones(4), values) == spearman(values, np.ones(4)) == 0.0
    assert mape(values * 1.1, values) == pytest.approx(0.1)
