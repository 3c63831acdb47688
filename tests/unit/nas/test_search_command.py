"""The command line that a result keeps searches the same again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ofa_tvm.nas.opened_accuracy import Evaluation
from ofa_tvm.nas.request import SearchRequest, search_command
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.support import nvml
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.shipped import shipped_folder, shipped_supernet
from ofa_tvm.tuner.tuned_space import Target

X86 = Target.named("x86", threads=1, batch=1)


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (SearchRequest(Path("net"), [X86], Path("out")), {"--supernet": ["net"], "--out": ["out"], "--seed": ["0"]}),
        (SearchRequest(shipped_supernet(), [X86], Path("out")), {"--supernet": ["mbv3-cifar"]}),
        (SearchRequest(Path("net"), [X86], Path("out"), budgets_ms=[0.1, 2]), {"--max-latency-ms": ["0.1", "2"]}),
        (
            SearchRequest(
                Path("net"),
                [X86],
                Path("out"),
                settings=SearchSettings(limits={"size": 1.5}, objectives=("energy",), percentile=99, busy_cores=1),
            ),
            {"--max-size-mb": ["1.5"], "--objective": ["energy"], "--percentile": ["99"], "--load": ["1"]},
        ),
        (
            SearchRequest(Path("net"), [X86], Path("out"), evaluation=Evaluation("imagefolder:my data"), samples=33),
            {"--data": ["imagefolder:my data"], "--samples": ["33"]},
        ),
        (
            SearchRequest(Path("net"), [X86, Target.named("x86", 1, 1, dtype="int8")], Path("out"), merges=True),
            {"--target": ["x86"], "--dtype": ["auto"]},
        ),
        (SearchRequest(Path("net"), [X86, Target.named("x86-2t")], Path("out")), {"--target": ["x86", "x86-2t"]}),
        (
            SearchRequest(Path("net"), [X86, Target.named("raspberry-pi-5@pack")], Path("out")),
            {"--target": ["x86", "raspberry-pi-5@pack"], "--device": [], "--dtype": ["float32"]},
        ),
        (
            SearchRequest(Path("net"), [X86, Target.named("cuda-sm90", dtype="float16")], Path("out")),
            {"--target": ["x86", "cuda-sm90"], "--dtype": []},
        ),
        (
            SearchRequest(Path("net"), [Target.named("raspberry-pi-5@pack")], Path("out")),
            {"--target": ["raspberry-pi-5"], "--device": ["pack"]},
        ),
    ],
)
def test_options_are_those_of_the_request(request_, options):
    words = shlex.split(search_command(request_))
    assert words[:3] == ["python", "-m", "ofa_tvm.search"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    given = {name: [value for key, value in pairs if key == name] for name in options}
    assert given == options


def test_a_target_may_be_named_with_its_device(tmp_path):
    for folder in ("a@b", "x"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text((shipped_folder("targets") / "x86.toml").read_text())
        path = str(tmp_path / folder / "mine.toml")
        assert Target.named(path).device is None
        there = Target.named(f"{path}@pack")
        assert (there.source, there.device, there.spec.device) == (path, "pack", "pack")
    assert Target.named("raspberry-pi-5@rpc:farm:9190:pi@home").spec.tracker == "farm:9190"
    assert Target.named("x86@pack", device="pack").spec.device == "pack"


@pytest.mark.parametrize(
    ("name", "device", "problem"),
    [
        ("x86@pack", "local", "--target x86@pack and --device local name two devices"),
        ("x86@moon", None, "target x86 cannot use device 'moon'"),
        ("x86@replay", None, "does not say which tuning log answers"),
        ("moon@pack", None, "unknown target 'moon'"),
        ("x86@", None, "unknown target 'x86@'"),
        ("@pack", None, "unknown target '@pack'"),
    ],
)
def test_devices_that_cannot_be_are_refused(name, device, problem):
    with pytest.raises(UserError, match=problem):
        Target.named(name, device=device)


GPU_HERE, GPU_THERE = Target.named("cuda-sm90@local"), Target.named("cuda-sm90")
ENERGY = SearchSettings(limits={"energy": 2.0})


@pytest.mark.parametrize(
    ("targets", "settings", "exports", "problem"),
    [
        ([X86, Target.named("x86@pack")], SearchSettings(), False, "two targets are called x86"),
        ([X86], SearchSettings(), True, "--device local needs no pack"),
        ([X86, Target.named("x86-2t")], SearchSettings(), True, "say what is measured elsewhere: --target NAME@pack"),
        ([X86, GPU_THERE], SearchSettings(percentile=99), False, "target cuda-sm90 is device 'pack'"),
        ([X86, GPU_HERE], ENERGY, False, "energy of target cuda-sm90 cannot be told: the GPU's driver counts none"),
        ([Target.named("arm@pack")], ENERGY, False, "watts of a busy core are known of x86 servers only"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(monkeypatch, targets, settings, exports, problem):
    monkeypatch.setattr(nvml, "LIBRARY", "libnone.so")
    with pytest.raises(UserError, match=problem):
        SearchRequest(Path("net"), targets, Path("out"), settings=settings, exports=exports).check()


def test_every_limit_is_one_for_gpus_and_several_targets_may_be_measured_elsewhere():
    limits = {"size": 1.0, "macs": 100.0, "memory": 1.0, "energy": 2.0}
    settings = SearchSettings(limits=limits, objectives=("energy", "size"))
    SearchRequest(Path("net"), [X86, GPU_THERE], Path("out"), settings=settings, exports=True).check()


def test_folders_that_are_no_searches_are_told_apart(tmp_path):
    with pytest.raises(UserError, match=r"is no finished search: result.json is missing\n.*--out"):
        load_search_result(tmp_path)
    with pytest.raises(UserError, match=r"none does not exist\n"):
        load_search_result(tmp_path / "none")
