"""Architectures as others write them."""

import json

import pytest

from ofa_tvm.spaces import FUSED, MBV3, MBV3_CIFAR, MBV3_W12, PROXYLESS
from ofa_tvm.spaces.architectures import from_ofa, read_architectures
from ofa_tvm.support.errors import UserError

KERNELS = [3, 5, 7, 3, 5, 5, 7, 3, 3, 3, 5, 7, 7, 5, 3, 3, 5, 7, 3, 5]
EXPANDS = [3, 4, 6, 3, 6, 4, 3, 4, 6, 6, 3, 4, 4, 6, 3, 3, 6, 4, 3, 6]
WHOLE = {"ks": KERNELS, "e": EXPANDS, "d": [2, 3, 4, 2, 3], "r": 224}
CONFIG = from_ofa(WHOLE, MBV3)


def running(numbers, depths=(2, 3, 4, 2, 3), most=4):
    return [number for stage, depth in enumerate(depths) for number in numbers[most * stage : most * stage + depth]]


def written(tmp_path, text, name="one.json"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WHOLE),
        "\ufeff" + json.dumps(WHOLE),
        json.dumps({**WHOLE, "ks": running(KERNELS), "e": running(EXPANDS), "wid": None, "r": [224]}),
        json.dumps({"ks": KERNELS, "e": running(EXPANDS), "d": [2, 3, 4, 2, 3], "image_size": 224.0}),
        str({"wid": None, **WHOLE}),
        str([WHOLE]),
        json.dumps([CONFIG.key]),
        f"arch = {WHOLE}\n",
        f"{CONFIG.key}\n\n",
        json.dumps(WHOLE) + "\n",
        f"# found yesterday\n{CONFIG.key}\n",
        f"subnet,latency_ms\n{CONFIG.key},12.5\n",
        f'ks,e,d,r\n"{KERNELS}","{EXPANDS}","{WHOLE["d"]}",224\n',
        f'Sub-network,Date,Latency (ms)\n"{WHOLE}",2022-01-01 10:00:00,12.5\n',
    ],
)
def test_forms_of_one_subnet(tmp_path, text):
    assert read_architectures(written(tmp_path, text), MBV3) == [CONFIG]


def test_one_number_is_for_all():
    config = from_ofa({"ks": 7, "e": 4, "d": 3, "r": 224}, MBV3)
    assert config.stages == (((7, 4),) * 3,) * 5


def test_every_row_of_a_table(tmp_path):
    rows = [{**WHOLE, "r": size} for size in (160, 192)]
    table = "date,config,top1\n" + "".join(f'today,"{row}",0.7\n' for row in rows)
    found = read_architectures(written(tmp_path, table, "found.csv"), MBV3)
    assert [config.resolution for config in found] == [160, 192]


def test_a_subnet_a_line(tmp_path):
    lines = [CONFIG.key, "largest", json.dumps({**WHOLE, "wid": None}), str(WHOLE)]
    assert read_architectures(written(tmp_path, "\n".join(lines)), MBV3) == [CONFIG, MBV3.largest, CONFIG, CONFIG]


def test_named_dicts(tmp_path):
    text = f"small = { ({**WHOLE, 'r': 160}) }\nlarge = {WHOLE}\n"
    assert [config.resolution for config in read_architectures(written(tmp_path, text, "a.py"), MBV3)] == [160, 224]


def test_every_file_of_a_folder(tmp_path):
    written(tmp_path, json.dumps(WHOLE))
    written(tmp_path, CONFIG.key, "two.txt")
    written(tmp_path, f'config\n"{WHOLE}"\n', "three.csv")
    written(tmp_path, "not read", "README.md")
    assert read_architectures(str(tmp_path), MBV3) == [CONFIG] * 3


def test_the_file_of_a_folder_that_is_no_text_is_named(tmp_path):
    written(tmp_path, CONFIG.key, "one.txt")
    (tmp_path / "two.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"two\.txt cannot be read"):
        read_architectures(str(tmp_path), MBV3)


def test_which_entry_is_wrong(tmp_path):
    path = written(tmp_path, json.dumps([WHOLE, {**WHOLE, "e": 5}]))
    with pytest.raises(UserError, match=r"of mbv3: entry 2 of 2: "):
        read_architectures(path, MBV3)


def test_a_missing_resolution_is_no_choice():
    without = {name: value for name, value in WHOLE.items() if name != "r"}
    with pytest.raises(UserError, match="names no resolution, mbv3 has 25 from 128 to 224"):
        from_ofa(without, MBV3)


def test_a_stage_without_a_choice_may_be_left_out():
    whole = {"ks": [3] * 21, "e": [4] * 21, "d": [2, 3, 4, 2, 2, 1], "r": 128}
    assert from_ofa({**whole, "d": [2, 3, 4, 2, 2]}, PROXYLESS) == from_ofa(whole, PROXYLESS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r": [160, 224]}, "names 2 resolutions"),
        ({"r": float("inf")}, "r has inf, which is no whole number"),
        ({"r": "224"}, "no whole number"),
        ({"e": [4.9, *EXPANDS[1:]]}, r"e has 4\.9, which is no whole number\n *choose one of 3, 4, 6"),
        ({"ks": [7.9, *KERNELS[1:]]}, r"ks has 7\.9, which is no whole number\n *choose one of 3, 5, 7"),
        ({"d": [2, 3, 4, 2, 2.5]}, r"d has 2\.5, which is no whole number\n *choose one of 2, 3, 4"),
        ({"r": 224.7}, r"r has 224\.7, which is no whole number\n *choose one of 128, "),
        ({"ks": KERNELS[:-1]}, "19 entries: neither one for each of 20 block positions, nor one for each of the 14"),
        ({"d": [2, 3, 4, 2, -1]}, "depth -1 of stage 4 is not one of 2, 3, 4"),
        ({"d": [2, 3, 4, 2, 5]}, "depth 5 of stage 4"),
        ({"d": [2, 3, 4]}, "d has 3 depths, mbv3 5 stages"),
        ({"wid": 1}, "wid 1 names another width"),
        ({"ks": None}, "ks has None"),
    ],
)
def test_what_cannot_be_is_said(change, said):
    with pytest.raises(UserError, match=said):
        from_ofa({**WHOLE, **change}, MBV3)


NINES = "9" * 5000


@pytest.mark.seconds(3)
@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "[" * 100_000,
            "7",
            '{"subnet": null}',
            "a,b\n1,2\n",
            "{'ks': __import__('os')}",
            "-" * 100_000 + "1",
        ),
        *("{[1]: 2}", "arch = {[1]}", '"' + 200_000 * "x" + '",1', f"r32.7x{NINES}", "x,y\n" * 20_000),
        '{"ks": 0x' + 6000 * "f" + ', "e": 3, "d": 3, "r": 160}',
        *(
            f'{{"blocks": [1, {{"conv": {{"name": "x", "in_channels": {given}, "mid_channels": {middle}, '
            f'"out_channels": 1, "kernel_size": 3, "stride": 1}}}}]}}'
            for given, middle in ((0, 3), (3, "NaN"), (3, "Infinity"), (3, "1" + 400 * "0"))
        ),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_architecture_is_said(tmp_path, text):
    with pytest.raises(UserError, match=r"one\.json is not an architecture"):
        read_architectures(written(tmp_path, text), MBV3)


def test_the_space_that_fits_is_named(tmp_path):
    path = written(tmp_path, json.dumps(WHOLE))
    with pytest.raises(
        UserError, match=r"not an architecture of mbv3-cifar(.|\n)*it fits mbv3 and mbv3-w1\.2: give --space mbv3"
    ):
        read_architectures(path, MBV3_CIFAR)


def test_what_does_not_fit_comes_before_the_spaces_that_would(tmp_path):
    path = written(tmp_path, '{"ks": 3, "e": 2, "d": 2, "r": 224}')
    with pytest.raises(UserError) as caught:
        read_architectures(path, MBV3_CIFAR)
    assert caught.value.what.endswith("resolution 224 is not in space mbv3-cifar")
    assert caught.value.hint == (
        "choose one of 24, 28, 32\nor: it fits fused: give --space fused without --supernet, or a supernet of it"
    )


def specialised(space, config, old=False):
    """A specialised network's file, as far as it is read."""
    blocks = [{"name": "ResidualBlock", "conv": {"name": "MBConvLayer"}, "shortcut": None}]
    layers = {layer.name: layer for layer in space.network(space.largest).layers}
    number, before = 0, layers["block0_project"].out_channels
    for stage, chosen in enumerate(config.stages):
        first = layers[f"block{number + 1}_depthwise"]
        number += space.depths_of(stage)[-1]
        width = layers[f"block{number}_project"].out_channels
        for place, (kernel, expand) in enumerate(chosen):
            conv = {"name": "MBConvLayer", "kernel_size": kernel, "stride": first.stride if place == 0 else 1}
            conv |= {"in_channels": width if place else before, "out_channels": width, "expand_ratio": expand}
            conv |= {"mid_channels": None if place else round(before * expand)}
            blocks.append({"mobile_inverted_conv": conv} if old else {"conv": conv, "shortcut": None})
        blocks.append({"conv": {"name": "ZeroLayer"}})
        before = width
    return json.dumps({"name": "MobileNetV3", "blocks": blocks})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({**WHOLE, "ks": [5.9, *KERNELS[1:]]}), "ks has 5.9"),
        (json.dumps({**WHOLE, "e": [True, *EXPANDS[1:]]}), "e has True"),
        (json.dumps({**WHOLE, "d": [2, 3, 4, 2, -1]}), "depth -1 of stage 4"),
        (json.dumps({**WHOLE, "d": [2, 3, 4, 2, 999]}), "depth 999 of stage 4"),
        (json.dumps({**WHOLE, "ks": ["7", *KERNELS[1:]]}), "ks has '7'"),
        (json.dumps({**WHOLE, "r": [160, 224]}), "r names 2 resolutions"),
        (json.dumps({**WHOLE, "image_size": 160}), "r is 224 and image_size 160"),
        (json.dumps({**WHOLE, "subnet": MBV3.largest.key}), "names another subnet than its lists"),
        (json.dumps(WHOLE)[:-1] + ', "r": 160}', "key 'r': the key comes twice"),
        (str(WHOLE)[:-1] + ", 'r': 160}", "neither JSON"),
        (json.dumps({**WHOLE, "r": 1})[:-2] + "1e999}", "r has inf"),
        ('{"subnet": 1.5}', "its subnet is 1.5"),
        ("ks,e,d,r,r\n7,4,3,224,160\n", "neither JSON"),
        ("ks,e,d,r\n7,5,7,4,4,3,224\n", "neither JSON"),
        ("r\u066224.7x4", "is not a subnet key"),
    ],
)
def test_a_subnet_is_never_silently_another_one(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        read_architectures(written(tmp_path, text), MBV3)
    assert said in str(caught.value)


@pytest.mark.parametrize("space", [MBV3, MBV3_W12, PROXYLESS])
@pytest.mark.parametrize("old", [False, True])
def test_specialised_networks(tmp_path, space, old):
    config = space.largest
    config = type(config)(
        space.resolutions[1], tuple(stage[: space.depths_of(n)[0]] for n, stage in enumerate(config.stages))
    )
    folder = tmp_path / "nets" / "note10@lat@22ms"
    folder.mkdir(parents=True)
    (folder / "net.config").write_text(specialised(space, config, old))
    with pytest.raises(UserError, match=r"no run\.config lies beside it"):
        read_architectures(str(folder), space)
    (folder / "run.config").write_text(json.dumps({"image_size": config.resolution}))
    for source in (folder, folder / "net.config", tmp_path / "nets"):
        assert read_architectures(str(source), space) == [config]
    with pytest.raises(UserError, match=f"it fits {space.name}: give --space {space.name}".replace(".", r"\.")):
        read_architectures(str(folder), MBV3_CIFAR)


def test_another_family_with_the_same_choices_is_told_apart(tmp_path):
    (tmp_path / "net.config").write_text(specialised(MBV3, MBV3.uniform(160, 2, 3, 3)))
    (tmp_path / "run.config").write_text('{"image_size": 160}')
    with pytest.raises(UserError, match=r"its block 1 has 24 channels, that of fused 32(.|\n)*it fits mbv3: "):
        read_architectures(str(tmp_path / "net.config"), FUSED)


def test_a_folder_without_any(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.json, \.jsonl, \.csv, \.txt, \.py and no net\.config"):
        read_architectures(str(tmp_path), MBV3)
