"""The quadratic model against a Gaussian process written out, and the columns that it is given."""

import numpy as np
import pytest
from scipy import optimize
from scipy.optimize import check_grad

from ofa_tvm.accuracy.choice_steps import choice_steps, step_groups
from ofa_tvm.regression import quadratic_process as quadratic
from ofa_tvm.regression.quadratic_process import QuadraticModel
from ofa_tvm.spaces import SPACES, get_space

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
GROUPS = np.asarray([0, 1, 1, 2, 2, 2])


def truth(columns):
    return 3 + columns[:, 0] - 2 * columns[:, 1] + 1.5 * columns[:, 1] * columns[:, 3]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    columns = rng.uniform(size=(140, len(GROUPS)))
    return columns, truth(columns) + 0.05 * rng.standard_normal(140)


@pytest.fixture(scope="module")
def model(data):
    return QuadraticModel.fit(data[0][:100], GROUPS, data[1][:100])


def test_finds_a_quadratic_function_and_its_noise(model, data):
    errors = model.predict(data[0][100:]) - truth(data[0][100:])
    assert np.sqrt((errors**2).mean()) < 0.03
    assert model.noise == pytest.approx(0.05, rel=0.1)


def test_matrix_is_the_mean_of_the_gaussian_process(data, monkeypatch):
    found = {}
    minimise = optimize.minimize

    def remember(*arguments, **options):
        found["x"] = (result := minimise(*arguments, **options)).x
        return result

    monkeypatch.setattr(optimize, "minimize", remember)
    (columns, unseen), target = np.split(data[0], [100]), data[1][:100]
    model = QuadraticModel.fit(columns, GROUPS, target)
    amplitude, noise, *weights = np.exp(found["x"])

    def kernel(first, second):
        return amplitude * (1 + (first * np.asarray(weights)[GROUPS]) @ second.T) ** 2

    standard = (target - target.mean()) / target.std()
    solved = np.linalg.solve(kernel(columns, columns) + noise * np.eye(100), standard)
    expected = target.mean() + target.std() * kernel(unseen, columns) @ solved
    np.testing.assert_allclose(model.predict(unseen), expected, rtol=1e-9)
    kept = np.arange(100) != 17
    solved = np.linalg.solve(kernel(columns[kept], columns[kept]) + noise * np.eye(99), standard[kept])
    without = target.mean() + target.std() * kernel(columns[17:18], columns[kept]) @ solved
    assert model.residuals[17] == pytest.approx((target[17] - without).item(), rel=1e-6)


@pytest.mark.seconds(10)
def test_gradient_is_that_of_the_loss(data):
    start = np.repeat(quadratic._START, (1, 1, 3))
    arguments = (data[0], GROUPS, data[1] - data[1].mean(), start)
    for seed in range(3):
        point = start + np.random.default_rng(seed).normal(size=len(start))
        error = check_grad(*(lambda x, part=part: quadratic._loss(x, *arguments)[part] for part in (0, 1)), point)
        assert error < 1e-4 * np.linalg.norm(quadratic._loss(point, *arguments)[1])


def test_constant_columns_and_targets_do_no_harm():
    model = QuadraticModel.fit(np.zeros((12, 2)), np.zeros(2, dtype=np.intp), np.full(12, 0.3))
    assert np.allclose(model.predict(np.eye(2)), 0.3)


@every_space
def test_choice_steps_say_all_of_a_subnet(space):
    genomes = np.unique(space.sample(np.random.default_rng(0), 200), axis=0)
    columns = choice_steps(space, genomes)
    assert columns.shape == (len(genomes), len(step_groups(space)))
    assert len(np.unique(columns, axis=0)) == len(genomes)
    assert (columns.min(), columns.max()) == (0, 1)
    ends = choice_steps(space, space.genomes([space.smallest, space.largest]))
    assert (ends[0] == 0).all() and (ends[1] == 1).all()
    stages = range(space.stages)
    groups = {0} | {1 + stage for stage in stages if len(space.depths_of(stage)) > 1}
    groups |= {1 + space.stages + stage for stage in stages if len(space.kernels_of(stage)) > 1}
    groups |= {1 + 2 * space.stages + stage for stage in stages if len(space.expands_of(stage)) > 1}
    assert set(step_groups(space)) == groups


def test_choice_steps_of_one_subnet():
    space = get_space("mbv3-cifar")
    genomes = space.genomes([space.parse("r28.5x2-7x4.3x3-3x2-3x4.3x2-3x2")])
    resolution, optional, kernel, expand = np.split(choice_steps(space, genomes)[0], [1, 4, 22])
    assert resolution == 0.5
    assert optional.tolist() == [0, 1, 0]
    assert kernel.tolist() == [1, 0, 1, 1, 0, 0] + [0] * 12
    assert expand.tolist() == [0, 0, 1, 1, 0, 0] + [1, 0, 0, 0, 1, 1] + [0] * 6
