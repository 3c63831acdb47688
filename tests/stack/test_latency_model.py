"""The latency model against a made-up device whose kernels are slower or faster in company than alone."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.compiler.lowering import layer_kernels
from ofa_tvm.cost_model.baselines import OURS, compare
from ofa_tvm.cost_model.latency_model import STEM, LatencyModel
from ofa_tvm.graph.network import INPUT, LayerSpec, NetworkSpec
from ofa_tvm.graph.scheduled_kernels import network_kernels
from ofa_tvm.regression.stacked_regressor import MIN_SAMPLES
from ofa_tvm.spaces import SPACES, get_space
from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace
from ofa_tvm.spaces.subnet_table import KINDS, QUANTITIES, SubnetTable
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.sealed import read_sealed, write_sealed

SPACE = get_space("mbv3-cifar")


def layer_keys(layer):
    key = f"{layer.kind}-{layer.in_size}-{layer.in_channels}-{layer.out_channels}-{layer.kernel_size}-{layer.stride}"
    return (f"pool-{key}", key) if layer.kind == "squeeze_excite" else (key,)


def kernel_keys(network):
    return [layer_keys(layer) for layer in network.layers]


class AnyKernel(Mapping[str, float]):
    """Times in ms of whatever is asked for: as told, or from a rule with a hash-like scatter."""

    def __init__(self, told: dict[str, float] | None = None) -> None:
        self.told = told or {}

    def __getitem__(self, key):
        if key in self.told:
            return self.told[key]
        scatter = 0.7 + 0.6 * (sum(map(ord, key)) * 7919 % 1000) / 1000
        numbers = [int(part) for part in key.split("-")[-5:]]
        size, inputs, outputs, kernel, _ = numbers
        work = size**2 * kernel**2 * (outputs if "depthwise" in key else inputs * outputs)
        return scatter * (2e-3 + work / 2e7)

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


COSTS = AnyKernel()


def measured_ms(configs, seed=0):
    """True latency: kernels with a launch cost, a penalty where maps leave the cache, and 1 % noise."""
    rng = np.random.default_rng(seed)
    latency = []
    for config in configs:
        total = 0.02
        for layer in SPACE.network(config).layers:
            moved = 4 * (layer.in_size**2 * layer.in_channels + layer.out_elements)
            cold = 1 + 0.35 * np.tanh(moved / 150_000)
            total += 0.8 * cold * sum(COSTS[key] for key in layer_keys(layer)) + 1e-3
        latency.append(total)
    return np.array(latency) * np.exp(0.01 * rng.standard_normal(len(latency)))


@pytest.fixture(scope="module")
def table():
    return SubnetTable(SPACE, COSTS, kernel_keys)


@pytest.fixture(scope="module")
def samples():
    configs = SPACE.sample_configs(np.random.default_rng(5), 400)
    return configs, measured_ms(configs)


@pytest.fixture(scope="module")
def model(table, samples):
    configs, latency_ms = samples
    return LatencyModel.fit(table, configs[:100], latency_ms[:100])


@pytest.mark.parametrize("space", SPACES.values(), ids=list(SPACES))
def test_table_equals_the_sum_over_the_network(space):
    table = SubnetTable(space, COSTS, kernel_keys)
    configs = [space.smallest, space.largest, *space.sample_configs(np.random.default_rng(9), 20)]
    sums = table.quantities(space.genomes(configs))
    for row, config in zip(sums, configs, strict=True):
        network = space.network(config)
        assert np.allclose(row, table.network_quantities(config), rtol=1e-12)
        named = dict(zip(QUANTITIES, row, strict=True))
        assert named["macs"] == network.macs
        assert named["parameter_bytes"] == network.parameter_bytes
        assert named["kernels"] == sum(len(layer_keys(layer)) for layer in network.layers)
        total_ms = sum(COSTS[key] for layer in network.layers for key in layer_keys(layer))
        assert row[: len(KINDS)].sum() == pytest.approx(total_ms)


def test_table_ignores_genes_of_skipped_blocks(table):
    rng = np.random.default_rng(1)
    genomes = (rng.random((200, len(SPACE.gene_sizes))) * SPACE.gene_sizes).astype(np.int8)
    assert np.array_equal(table.quantities(genomes), table.quantities(SPACE.canonical(genomes)))


def test_table_adds_up_the_kernels_of_the_closed_set():
    costs = {key: 1e-3 * number for number, key in enumerate(layer_kernels(SPACE), start=1)}
    table = SubnetTable(SPACE, costs, lambda network: [(kernel.key,) for _, kernel in network_kernels(network)])
    config = SPACE.sample_configs(np.random.default_rng(4), 1)[0]
    total_ms = sum(costs[kernel.key] for _, kernel in network_kernels(SPACE.network(config)))
    assert table.quantities(SPACE.genomes([config]))[0, : len(KINDS)].sum() == pytest.approx(total_ms)


def test_table_names_missing_kernels():
    with pytest.raises(UserError, match="kernels of space mbv3-cifar have no time"):
        SubnetTable(SPACE, {}, kernel_keys)
    stem = kernel_keys(SPACE.network(SPACE.largest))[0][0]
    for failed in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UserError, match=f"1 kernels .* e.g. {stem}"):
            SubnetTable(SPACE, AnyKernel({stem: failed}), kernel_keys)


class Entangled(InvertedResidualSpace):
    """A space whose stem depends on the depth, which no table of blocks can express."""

    def network(self, config):
        network = super().network(config)
        width = sum(config.depths)
        extra = LayerSpec("extra", "conv", INPUT, 3, width, config.resolution)
        return NetworkSpec(network.resolution, 3, network.classes, (extra, *network.layers))


def test_table_refuses_a_space_that_it_cannot_add_up():
    fields = {name: getattr(SPACE, name) for name in SPACE.__dataclass_fields__}
    with pytest.raises(ValueError, match="cannot add them up"):
        SubnetTable(Entangled(**fields))


def test_few_samples_give_a_good_model_and_honest_intervals(model, samples):
    configs, latency_ms = samples
    quality = model.evaluate(configs[100:], latency_ms[100:])
    assert quality["mape"] < 0.02
    assert quality["within_5pct"] > 0.97
    assert quality["within_10pct"] >= quality["within_5pct"]
    assert quality["spearman"] > 0.98
    assert 0.82 <= quality["interval_coverage"] <= 0.98


def test_coverage_holds_on_average_at_thirty_samples(table, samples):
    configs, latency_ms = samples
    genomes = SPACE.genomes(configs)
    coverage = []
    for seed in range(8):
        rows = np.random.default_rng(seed).permutation(len(configs))
        model = LatencyModel.fit(table, [configs[row] for row in rows[:30]], latency_ms[rows[:30]])
        _, low_ms, high_ms = model.predict(genomes[rows[30:]])
        truth = latency_ms[rows[30:]]
        coverage.append(((low_ms <= truth) & (truth <= high_ms)).mean())
    assert 0.85 <= np.mean(coverage) <= 0.98


def test_beats_every_baseline_at_equal_samples(table, samples):
    configs, latency_ms = samples
    report = compare(table, configs[:120], latency_ms[:120])
    assert json.loads(json.dumps(report)) == report
    errors = {name: scores["mape"] for name, scores in report["methods"].items()}
    assert set(errors) == {OURS, "table_alone", "additive", "xgboost_raw", "flops"}
    assert all(errors[OURS] < 0.8 * error for name, error in errors.items() if name != OURS), errors


def test_works_without_kernel_times(samples):
    configs, latency_ms = samples
    plain = SubnetTable(SPACE)
    model = LatencyModel.fit(plain, configs[:100], latency_ms[:100])
    assert model.evaluate(configs[100:], latency_ms[100:])["mape"] < 0.05
    assert "table_alone" not in compare(plain, configs[:50], latency_ms[:50])["methods"]


def test_same_samples_same_model(table, samples, model):
    configs, latency_ms = samples
    again = LatencyModel.fit(table, configs[:100], latency_ms[:100])
    genomes = SPACE.sample(np.random.default_rng(2), 500)
    assert all(map(np.array_equal, model.predict(genomes), again.predict(genomes)))


def test_predictions_do_not_depend_on_their_company(model):
    genomes = SPACE.sample(np.random.default_rng(2), 10_000)
    mean_ms, low_ms, high_ms = model.predict(genomes)
    assert (low_ms > 0).all()
    assert (low_ms < mean_ms).all()
    assert (mean_ms < high_ms).all()
    assert np.allclose(model.predict(genomes[9_990:])[0], mean_ms[9_990:], rtol=1e-12)
    assert model.predict(genomes[:0])[0].shape == (0,)


def test_saved_model_predicts_the_same(model, table, tmp_path):
    model.save(tmp_path, {"note": 1})
    genomes = SPACE.sample(np.random.default_rng(2), 500)
    loaded = LatencyModel.load(tmp_path, table)
    assert all(map(np.array_equal, model.predict(genomes), loaded.predict(genomes)))
    assert json.loads((tmp_path / f"{STEM}.report.json").read_text())["report"] == {"note": 1}


def damage(folder, name, change):
    path = folder / f"{STEM}.{name}"
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["ubj", "report.json"])
@pytest.mark.parametrize(
    "change",
    [None, lambda content: content[:-20], lambda content: b"", lambda content: b"\xff\x00" * 50],
    ids=["missing", "torn", "empty", "garbage"],
)
def test_damaged_files_are_user_errors(model, table, tmp_path, name, change):
    model.save(tmp_path)
    damage(tmp_path, name, change)
    with pytest.raises(UserError):
        LatencyModel.load(tmp_path, table)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 99},
        {"model": {}},
        {"model": {"coefficients": "a"}},
        {"model": None},
        {"report": None},
        {"trees_sha256": "0"},
    ],
    ids=str,
)
def test_wrong_content_is_a_user_error(model, table, tmp_path, change):
    model.save(tmp_path)
    damage(tmp_path, "report.json", lambda content: json.dumps(json.loads(content) | change).encode())
    with pytest.raises(UserError):
        LatencyModel.load(tmp_path, table)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: model["coefficients"].__setitem__(5, float("nan")), "key 'model.coefficients.5'"),
        (lambda model: model["coefficients"].__setitem__(5, True), "key 'model.coefficients.5'"),
        (lambda model: model["coefficients"].__setitem__(5, 10**400), "digits"),
        (lambda model: model["coefficients"].pop(), "other columns"),
        (lambda model: model.update(tree_weight=1.5), "key 'model.tree_weight'"),
        (lambda model: model.update(floor=0.0), "key 'model.floor'"),
        (lambda model: model.update(scores=[]), "key 'model.scores'"),
    ],
)
def test_numbers_that_cannot_be_are_refused_even_with_a_hash_that_fits(model, table, tmp_path, change, said):
    model.save(tmp_path)
    path = tmp_path / f"{STEM}.report.json"
    content = read_sealed(path, "model", "")
    change(content["model"])
    write_sealed(path, content)
    with pytest.raises(UserError, match=said):
        LatencyModel.load(tmp_path, table)


def test_an_edited_coefficient_is_refused_with_the_command_that_fits_again(model, table, tmp_path):
    model.save(tmp_path)
    path = tmp_path / f"{STEM}.report.json"
    content = json.loads(path.read_text())
    content["model"]["coefficients"][40] += 1e-12
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"not what its hash says\n.*ofa_tvm\.tune --target x86"):
        LatencyModel.load(tmp_path, table, "python -m ofa_tvm.tune --target x86")


@pytest.mark.parametrize("trees", [b"", b"no trees", b"{}", b"\0" * 1000])
def test_trees_that_are_none_are_refused_even_with_a_hash_that_fits(model, table, tmp_path, trees):
    model.save(tmp_path)
    (tmp_path / f"{STEM}.ubj").write_bytes(trees)
    path = tmp_path / f"{STEM}.report.json"
    write_sealed(path, {**read_sealed(path, "model", ""), "trees_sha256": hashlib.sha256(trees).hexdigest()})
    with pytest.raises(UserError, match="is damaged"):
        LatencyModel.load(tmp_path, table)


def test_model_of_another_space_or_table_is_refused(model, tmp_path):
    model.save(tmp_path)
    other = replace(SPACE, resolutions=(24, 28))
    with pytest.raises(UserError, match="another space"):
        LatencyModel.load(tmp_path, SubnetTable(other, COSTS, kernel_keys))
    with pytest.raises(UserError, match="other kernel times"):
        LatencyModel.load(tmp_path, SubnetTable(SPACE))


def test_unusable_samples_are_refused(table, samples):
    configs, latency_ms = samples
    with pytest.raises(UserError, match="too few"):
        LatencyModel.fit(table, configs[: MIN_SAMPLES - 1], latency_ms[: MIN_SAMPLES - 1])
    for bad in (np.nan, np.inf, 0.0, -1.0):
        with pytest.raises(UserError, match="not finite or not positive"):
            LatencyModel.fit(table, configs[:20], np.append(latency_ms[:19], bad))
