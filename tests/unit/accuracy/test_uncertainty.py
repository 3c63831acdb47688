"""Standard errors are what repeated counting shows."""

from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.accuracy.uncertainty import Estimate, counted, difference, own_noise, predictors_error, standard_error

RNG = np.random.default_rng(0)


def test_counting_again_differs_by_the_standard_error():
    found = [counted(RNG.random(500) < 0.8) for _ in range(2000)]
    assert np.std([one.top1 for one in found]) == pytest.approx(np.mean([one.error for one in found]), rel=0.05)


@pytest.mark.parametrize("top1", [0.0, 1.0])
def test_nothing_is_certain(top1):
    assert 0 < standard_error(top1, 100) < 0.02


def test_the_same_images_tell_a_difference_better():
    first = RNG.random((1000, 800)) < 0.8
    second = np.where(RNG.random((1000, 800)) < 0.1, ~first, first)
    found = [difference(one, other) for one, other in zip(first, second, strict=True)]
    spread = np.std([one.top1 for one in found])
    assert spread == pytest.approx(np.mean([one.error for one in found]), rel=0.1)
    assert spread < 0.7 * np.hypot(standard_error(0.8, 800), standard_error(0.74, 800))


def test_the_best_of_many_is_not_as_good_as_it_looks():
    """Where subnets differ by 0.5 points and counting by 2, the winner's own accuracy is near its estimate."""
    true = 0.8 + 0.005 * RNG.standard_normal((500, 40))
    seen = true + 0.02 * RNG.standard_normal(true.shape)
    best = seen.argmax(axis=1)
    rows = np.arange(len(best))
    prior = Estimate(0.8, 0.005)
    estimates = [Estimate(one, 0.02).with_prior(prior) for one in seen[rows, best]]
    assert np.mean(seen[rows, best] - true[rows, best]) > 0.03
    assert np.mean([one.top1 for one in estimates] - true[rows, best]) == pytest.approx(0, abs=0.001)
    assert np.std([one.top1 for one in estimates] - true[rows, best]) == pytest.approx(estimates[0].error, rel=0.1)


def test_what_nobody_knows_is_no_prior():
    assert Estimate(0.8, 0.01).with_prior(Estimate(0.1, float("inf"))) == Estimate(0.8, 0.01)


def test_a_predictors_own_error_is_that_without_counting():
    residuals = np.hypot(0.01, 0.02) * RNG.standard_normal(100_000)
    assert predictors_error(residuals, 0.02) == pytest.approx(0.01, rel=0.05)
    assert predictors_error(np.zeros(10), 0.02) == pytest.approx(0.002)


def test_noise_is_what_subnets_do_not_share():
    easy = RNG.random(4000) < 0.8
    answers = [np.where(RNG.random(4000) < 0.1, RNG.random(4000) < 0.5, easy) for _ in range(120)]
    assert own_noise(answers) == pytest.approx(np.std([one.mean() for one in answers]), rel=0.2)
    assert own_noise(answers) < 0.6 * standard_error(0.77, 4000)
    assert own_noise(answers[:1]) == float("inf")
