import numpy as np
import pytest

from ofa_tvm.cost_model.importance import importance
from ofa_tvm.cost_model.latency_data import LatencyData
from ofa_tvm.cost_model.latency_model import LatencyModel, tree_columns, tree_names
from ofa_tvm.cost_model.learning_curve import CurvePoint, doubled, learning_curve
from ofa_tvm.spaces import get_space
from ofa_tvm.spaces.subnet_table import SubnetTable

SPACE = get_space("mbv3-cifar")
TABLE = SubnetTable(SPACE)


def data(count, noise=0.01):
    rng = np.random.default_rng(0)
    configs = SPACE.sample_configs(rng, count)
    work = TABLE.quantities(SPACE.genomes(configs))[:, -3:] @ np.array([1e-7, 2e-7, 1e-7])
    return LatencyData(tuple(configs), (0.05 + work) * np.exp(noise * rng.standard_normal(count)))


def test_the_curve_has_every_size_that_fits_and_falls():
    curve = learning_curve(TABLE, data(80))
    assert [point.samples for point in curve] == [10, 30, 64]
    assert all(set(point.mape) == {"model", "additive", "xgboost_raw", "flops"} for point in curve)
    assert curve[-1].mape["model"] < curve[0].mape["xgboost_raw"]
    assert curve == learning_curve(TABLE, data(80))


def test_a_size_near_the_largest_is_left_out():
    assert [point.samples for point in learning_curve(TABLE, data(40))] == [10, 32]


def test_twice_the_samples_follow_the_last_slope():
    points = [CurvePoint(10, {"model": 0.08}), CurvePoint(40, {"model": 0.02})]
    assert doubled(points) == pytest.approx(0.01)
    assert doubled([points[1], CurvePoint(80, {"model": 0.03})]) == 0.03
    assert doubled(points[:1]) is None


def test_importance_names_what_the_latency_follows():
    known = data(60)
    model = LatencyModel.fit(TABLE, known.configs, known.latency_ms)
    genomes = SPACE.genomes(list(known.configs))
    found = importance(model, genomes)
    assert len(tree_names(TABLE)) == tree_columns(TABLE, genomes).shape[1]
    assert set(found["trees"]) == set(tree_names(TABLE))
    assert next(iter(found["base"])).startswith("work")
    assert list(found["base"].values()) == sorted(found["base"].values(), reverse=True)
