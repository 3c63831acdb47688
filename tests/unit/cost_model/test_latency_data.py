import json

import numpy as np
import pytest

from ofa_tvm.cost_model.latency_data import read_latency_data
from ofa_tvm.predict import main
from ofa_tvm.spaces import get_space
from ofa_tvm.spaces.subnet_table import SubnetTable
from ofa_tvm.support.errors import UserError

SPACE = get_space("mbv3-cifar")


def lines(count, seed=0, slowness=1.0):
    """Latencies that MACs and bytes explain, with 1 % noise."""
    rng = np.random.default_rng(seed)
    configs = SPACE.sample_configs(rng, count)
    work = SubnetTable(SPACE).quantities(SPACE.genomes(configs))[:, -3:] @ np.array([1e-7, 2e-7, 1e-7])
    latency_ms = slowness * (0.05 + work) * np.exp(0.01 * rng.standard_normal(count))
    return [
        {"config": SPACE.to_ofa(config), "latency_ms": value} for config, value in zip(configs, latency_ms, strict=True)
    ]


def write(path, content):
    path.write_text("".join(json.dumps(line) + "\n" for line in content))
    return path


def test_lines_are_read_and_split_without_overlap(tmp_path):
    content = lines(50)
    data = read_latency_data(write(tmp_path / "a.jsonl", content), SPACE)
    assert [SPACE.to_ofa(config) for config in data.configs] == [line["config"] for line in content]
    known, asked = data.split(30, None, seed=3)
    assert (len(known), len(asked)) == (30, 20)
    assert not {config.key for config in known.configs} & {config.key for config in asked.configs}
    again, _ = data.split(30, 10, seed=3)
    assert again.configs == known.configs


def test_keys_are_read_too(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"subnet": "largest", "latency_ms": 1}])
    assert read_latency_data(path, SPACE).configs == (SPACE.largest,)


def test_a_list_is_read_as_well_as_lines(tmp_path):
    content = lines(12)
    (path := tmp_path / "a.json").write_text("\ufeff" + json.dumps(content, indent=1))
    found = read_latency_data(path, SPACE)
    assert [SPACE.to_ofa(config) for config in found.configs] == [line["config"] for line in content]
    assert found.latency_ms.tolist() == [line["latency_ms"] for line in content]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"subnet": "largest", "latency_ms": 1}, {"latency_ms": true}]', "entry 2: .*'latency_ms'"),
        ('[{"subnet": "largest", "latency_ms": 1}, 3]', "entry 2"),
        ('[{"subnet": "largest", "latency_ms": NaN}]', "NaN is no number"),
        ("[]", "is empty"),
        ("[1]\n[2]\n", "is not a list of latencies"),
        ("[" * 100_000, "is not a list of latencies: it is nested"),
    ],
    ids=lambda text: text[:40],
)
def test_a_bad_list_is_named(tmp_path, text, said):
    (path := tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_latency_data(path, SPACE)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"latency_ms": 1}', "it needs one of 'config' and 'subnet'"),
        ('{"subnet": "largest", "config": {}, "latency_ms": 1}', "it needs one of 'config' and 'subnet'"),
        ('{"subnet": 1.5, "latency_ms": 1}', "key 'subnet'"),
        ('{"subnet": "largest", "latency_ms": true}', "key 'latency_ms'"),
        ('{"subnet": "largest", "latency_ms": 1, "latency_ms": 2}', "the key comes twice"),
        pytest.param('{"subnet": "largest", "latency_ms": 1%s}' % ("0" * 400), "401 digits", id="digits"),
        pytest.param("[" * 100_000, "nested", id="nested"),
        ('{"subnet": "largest"}', "missing key 'latency_ms'"),
        ('{"subnet": "largest", "latency_ms": -1}', "greater than 0"),
        ('{"subnet": "largest", "latency_ms": "fast"}', "valid number"),
        ('{"subnet": "r33.7x4", "latency_ms": 1}', "resolution 33"),
        ('{"config": {"ks": [3], "e": [2], "d": [2], "r": 32}, "latency_ms": 1}', "d has 1 depths"),
        ("{", "line 2"),
        ("[1]", "line 2"),
        ("3", "line 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text('{"subnet": "largest", "latency_ms": 1}\n' + line + "\n")
    with pytest.raises(UserError, match="line 2") as error:
        read_latency_data(path, SPACE)
    assert message in str(error.value)


def test_missing_and_empty_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_latency_data(tmp_path / "none.jsonl", SPACE)
    with pytest.raises(UserError, match="empty"):
        read_latency_data(write(tmp_path / "empty.jsonl", []), SPACE)


def fitted(path, capsys, *options):
    arguments = ["--fit", str(path), "--space", SPACE.name, "--test", "100", "--json", *options]
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.seconds(20)
def test_predict_fits_and_reports_beside_what_it_has_to_beat(tmp_path, capsys):
    result = fitted(write(tmp_path / "a.jsonl", lines(140)), capsys, "--train", "30")
    assert (result["train"], result["test"]) == (30, 100)
    assert result["model"]["mape"] < 0.02
    for name in ("additive", "xgboost_raw", "flops"):
        assert set(result[name]) == {"mape", "within_5pct", "within_10pct", "spearman"}
        assert result["model"]["mape"] < result[name]["mape"]
    assert 0.75 <= result["interval_coverage"] <= 1


@pytest.mark.seconds(20)
def test_another_device_is_a_start(tmp_path, capsys):
    other = write(tmp_path / "other.jsonl", lines(150, seed=1, slowness=3.0))
    path = write(tmp_path / "a.jsonl", lines(120))
    alone = fitted(path, capsys, "--train", "10")["model"]["mape"]
    started = fitted(path, capsys, "--train", "10", "--base", str(other))
    assert started["base_samples"] == 150
    assert started["model"]["mape"] < min(0.02, alone)


def test_more_lines_than_there_are_is_bad_input(tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", lines(20))
    assert main(["--fit", str(path), "--space", SPACE.name, "--train", "15", "--test", "10"]) == 2
    assert "smaller --train" in capsys.readouterr().err
    assert main(["--fit", str(path), "--space", SPACE.name, "--train", "5"]) == 2


def test_lines_about_one_subnet_are_one_sample(tmp_path):
    content = [{**line, "latency_ms": factor * line["latency_ms"]} for line in lines(20) for factor in (1, 3, 2)]
    data = read_latency_data(write(tmp_path / "a.jsonl", content), SPACE)
    assert len(data) == 20
    assert data.latency_ms == pytest.approx([2 * line["latency_ms"] for line in lines(20)])
    fitted_to, asked = data.split(12, None, seed=0)
    assert not {config.key for config in fitted_to.configs} & {config.key for config in asked.configs}


def test_one_latency_everywhere_teaches_nothing(tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", [{**line, "latency_ms": 2} for line in lines(20)])
    assert main(["--fit", str(path), "--space", SPACE.name, "--train", "10"]) == 2
    assert "all 20 subnets take 2 ms, there is nothing to learn" in capsys.readouterr().err
