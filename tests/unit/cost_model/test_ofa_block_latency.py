"""OFA's block latencies: files made here, read strictly, added up by hand; the real ones if they are there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.cost_model.ofa_block_files import BlockTime, OfaTimes, block_keys
from ofa_tvm.cost_model.ofa_block_latency import BlockLatencyTable, block_times, read_files
from ofa_tvm.predict import main
from ofa_tvm.spaces import get_space
from ofa_tvm.support.errors import UserError

SPACE = get_space("mbv3-w1.2")
OFFICIAL = os.environ.get("OFA_TVM_OFFICIAL_DATA")

SMALLEST_AT_160 = {
    "Conv-input:160x160x3-output:80x80x24": 0.5,
    "expanded_conv-input:80x80x24-output:80x80x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0": 0.75,
    "expanded_conv-input:80x80x24-output:40x40x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0": 1.0,
    "expanded_conv-input:40x40x32-output:40x40x32-expand:96-kernel:3-stride:1-idskip:1-se:0-hs:0": 2.0,
    "expanded_conv-input:40x40x32-output:20x20x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0": 4.0,
    "expanded_conv-input:20x20x48-output:20x20x48-expand:144-kernel:3-stride:1-idskip:1-se:1-hs:0": 8.0,
    "expanded_conv-input:20x20x48-output:10x10x96-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:1": 16.0,
    "expanded_conv-input:10x10x96-output:10x10x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:1": 32.0,
    "expanded_conv-input:10x10x96-output:10x10x136-expand:288-kernel:3-stride:1-idskip:0-se:1-hs:1": 64.0,
    "expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1": 128.0,
    "expanded_conv-input:10x10x136-output:5x5x192-expand:408-kernel:3-stride:2-idskip:0-se:1-hs:1": 256.0,
    "expanded_conv-input:5x5x192-output:5x5x192-expand:576-kernel:3-stride:1-idskip:1-se:1-hs:1": 512.0,
    "Conv_1-input:5x5x192-output:5x5x1152": 0.25,
    "AvgPool2D-input:5x5x1152-output:1x1x1152": 0.125,
    "Conv_2-input:1x1x1152-output:1x1x1536": 0.0625,
    "Logits-input:1x1x1536-output:1000": 0.03125,
}
"""The 16 blocks of the smallest subnet, as OFA writes them; their sum is 1024.71875."""


def entry(key, mean_ms):
    return f"{key}:\n  count: 100\n  mean: {mean_ms!r}\n  std: 0.01\n"


def write(path, times_ms):
    path.write_text("".join(entry(key, mean_ms) for key, mean_ms in times_ms.items()))
    return path


def random_files(folder, resolutions=SPACE.resolutions):
    """Files of random times for all blocks of the space."""
    rng = np.random.default_rng(0)
    for resolution in resolutions:
        keys = set()
        for kernel in SPACE.kernel_choices:
            for expand in SPACE.expand_choices:
                keys |= set(block_keys(SPACE.network(SPACE.uniform(resolution, 4, kernel, expand))).values())
        write(folder / f"phone_{resolution}.yaml", {key: float(rng.uniform(0.1, 2)) for key in sorted(keys)})
    return folder


def test_keys_are_those_of_the_published_files():
    assert list(block_keys(SPACE.network(SPACE.smallest)).values()) == list(SMALLEST_AT_160)


def test_sum_by_hand(tmp_path):
    times = OfaTimes.read(write(tmp_path / "phone.yaml", SMALLEST_AT_160))
    assert times.resolution == 160
    blocks = block_times(times, SPACE, SPACE.smallest)
    assert list(blocks)[:4] == ["stem", "block0", "block1", "block2"]
    assert "block3" not in blocks and blocks["block18"] == 512.0
    assert sum(blocks.values()) == 1024.71875


@pytest.mark.parametrize("name", ["fused", "resnet50d"])
def test_a_family_that_they_do_not_describe_is_named(name, tmp_path):
    times, space = OfaTimes.read(write(tmp_path / "phone.yaml", SMALLEST_AT_160)), get_space(name)
    with pytest.raises(UserError, match=f"phone.yaml is of a MobileNetV3, and {name} has other layers"):
        block_times(times, space, space.uniform(160, 1, 3, 2))


def test_table_equals_the_sum_over_the_blocks_of_each_subnet(tmp_path):
    table = BlockLatencyTable.load(random_files(tmp_path, (128, *SPACE.resolutions)), SPACE)
    assert table.fixed_ms.shape == (5,)
    assert table.block_ms.shape == (5, 20, 9)
    assert (table.fixed_ms > 0).all() and (table.block_ms > 0).all()
    files = read_files(tmp_path)
    configs = [SPACE.smallest, SPACE.largest, *SPACE.sample_configs(np.random.default_rng(1), 40)]
    expected = [sum(block_times(files[config.resolution], SPACE, config).values()) for config in configs]
    np.testing.assert_allclose(table.latency_ms(SPACE.genomes(configs)), expected, rtol=1e-12)
    assert table.latency_ms(SPACE.genomes(configs)[:0]).shape == (0,)


def test_statistics_are_kept_and_var_is_the_square_of_std(tmp_path):
    path = write(tmp_path / "phone.yaml", SMALLEST_AT_160)
    stem = "Conv-input:160x160x3-output:80x80x24"
    assert OfaTimes.read(path).blocks[stem] == BlockTime(mean_ms=0.5, std_ms=0.01, count=100)
    path.write_text(f"{stem}:\n  mean: 0.5\n  var: 0.25\n  count: 3\n")
    assert OfaTimes.read(path).blocks == {stem: BlockTime(mean_ms=0.5, std_ms=0.5, count=3)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry("Conv-input:160x160x3-output:80x80x24", 1.0) * 2, "line 5: Conv-input.* was there before"),
        ("  mean: 1.0\n", "line 1: '  mean: 1.0' is neither"),
        ("Conv-input:160x160-output:80x80x24:\n", "line 1: .* is neither"),
        ("expanded_conv-input:8x8x3-output:8x8x3:\n", "line 1: .* is neither"),
        ("Conv-input:160x160x3-output:80x80x24:\n  median: 1.0\n", "line 2: .* is neither"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: 1.0\n  mean: 1.0\n", "line 3: mean was there before"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: fast\n", "line 2: 'fast' is not a number"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: nan\n", "line 2: 'nan' is not a number"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: -1\n", "line 2: -1 is not a time"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: 1.0\n", "line 1: a block needs count, mean, and"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: 0\n  std: 0\n  count: 3\n", "line 1: .* positive mean"),
        ("Conv-input:160x160x3-output:80x80x24:\n  mean: 1\n  std: 0\n  count: 0\n", "line 1: .* one or more"),
        ("", "has 0 entries like Conv-input"),
        (
            entry("Conv-input:160x160x3-output:80x80x24", 1.0) + entry("Conv-input:96x96x3-output:48x48x24", 1.0),
            "has 2 entries like Conv-input",
        ),
    ],
)
def test_damaged_files_name_file_and_line(tmp_path, text, said):
    path = tmp_path / "phone.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"phone.yaml.*{said}"):
        OfaTimes.read(path)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml does not exist"):
        BlockLatencyTable.load(tmp_path / "none.yaml", SPACE)
    with pytest.raises(UserError, match=r"resolution 160 of space mbv3-w1.2\n.*none"):
        BlockLatencyTable.load(tmp_path, SPACE)
    write(tmp_path / "phone.yaml", SMALLEST_AT_160)
    with pytest.raises(UserError, match=r"phone\.yaml: 20 blocks of space mbv3-w1.2 have no time, e.g. expanded_conv"):
        BlockLatencyTable.load(tmp_path / "phone.yaml", SPACE)
    write(tmp_path / "copy.yaml", SMALLEST_AT_160)
    with pytest.raises(UserError, match="both of resolution 160"):
        BlockLatencyTable.load(tmp_path, SPACE)


@pytest.mark.skipif(OFFICIAL is None, reason="OFA_TVM_OFFICIAL_DATA does not name the folder of OFA's own files")
def test_published_times_cover_the_space():
    assert OFFICIAL is not None
    folder = Path(OFFICIAL)
    table = BlockLatencyTable.load(folder, SPACE)
    smallest, largest = table.latency_ms(SPACE.genomes([SPACE.smallest, SPACE.largest]))
    assert 5 < smallest < 15 and 80 < largest < 100
    blocks = block_times(read_files(folder)[160], SPACE, SPACE.smallest)
    assert sum(blocks.values()) == pytest.approx(smallest)


@pytest.mark.seconds(20)
def test_predict_sums_the_blocks_and_starts_from_them(tmp_path, capsys):
    folder = tmp_path / "phone"
    folder.mkdir()
    table = BlockLatencyTable.load(random_files(folder), SPACE)
    space = ["--space", SPACE.name, "--json"]
    assert main([*space, "--block-table", str(folder), "--subnet", "smallest"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["subnets"]
    expected_ms = table.latency_ms(SPACE.genomes([SPACE.smallest]))[0]
    assert row["predicted_ms"] == pytest.approx(expected_ms) == pytest.approx(sum(row["parts"].values()))
    assert main([*space, "--block-table", str(folder), "--subnet", "r160.3x3"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2
    # A device whose blocks all take three times as long, and 5 ms more.
    configs = SPACE.sample_configs(np.random.default_rng(1), 60)
    latency_ms = 3 * table.latency_ms(SPACE.genomes(configs)) + 5
    lines = [{"subnet": config.key, "latency_ms": ms} for config, ms in zip(configs, latency_ms, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fit = [*space, "--fit", str(tmp_path / "a.jsonl"), "--train", "12"]
    assert main([*fit, "--base", str(folder)]) == 0
    errors = [json.loads(capsys.readouterr().out)["model"]["mape"]]
    assert main(fit) == 0
    errors.append(json.loads(capsys.readouterr().out)["model"]["mape"])
    assert errors[0] < min(0.01, errors[1])
