"""Models that others built: adopted, compiled, compared and deployed by the commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from ofa_tvm.adopt import main as adopt
from ofa_tvm.bench import main as bench
from ofa_tvm.compile import main as compile_subnets
from ofa_tvm.data.dataset import Dataset, Split
from ofa_tvm.deploy import main as deploy
from ofa_tvm.predict import main as predict
from ofa_tvm.search import main as search
from ofa_tvm.spaces.subnet_table import QUANTITIES, SubnetTable
from ofa_tvm.supernet.adopted import read_model
from ofa_tvm.supernet.facts import FILE_NAME, checkpoint_path, read_facts
from ofa_tvm.supernet.start import open_start
from ofa_tvm.train import main as train
from ofa_tvm.tune import main as tune

SIZE = 32


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.expand = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, maps):
        gate = self.expand(nn.functional.silu(self.reduce(self.pool(maps))))
        return maps * torch.sigmoid(gate)


def block(inputs: int, hidden: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.SiLU(inplace=True)),
        *(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.SiLU()),
        SqueezeExcite(hidden),
        *(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
    )


class Net(nn.Module):
    """An inverted residual block, a residual block with groups, and most else that is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.MaxPool2d(3, 2, 1))
        self.first, self.second = block(16, 32, 24, 1), block(24, 48, 24, 1)
        self.wide = nn.Sequential(nn.Conv2d(24, 32, 3, 1, 1, groups=2), nn.BatchNorm2d(32), nn.GELU())
        self.narrow, self.beside = nn.Conv2d(32, 32, 3, 2, 1), nn.Conv2d(24, 32, 1, 2)
        self.dense, self.classifier = nn.Linear(32 * 4 * 4, 20), nn.Linear(20, 6)

    def forward(self, images):
        maps = self.first(self.stem(images))
        maps = maps + self.second(maps)
        maps = torch.relu(self.narrow(self.wide(maps)) + self.beside(maps))
        hidden = nn.functional.hardswish(self.dense(maps.flatten(1)))
        return self.classifier(hidden)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for name, tensor in module.state_dict().items():
                    if name in ("running_var", "weight"):
                        tensor.uniform_(0.5, 1.5)
                    elif name != "num_batches_tracked":
                        tensor.normal_(0, 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def onnx_file(net: Net, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, SIZE, SIZE),), str(path), dynamo=False, opset_version=13)
    return path


@pytest.fixture(scope="module")
def adopted(onnx_file: Path) -> Path:
    folder = onnx_file.parent / "adopted"
    assert adopt([str(onnx_file), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for name in "abc":
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def result(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return printed


def test_an_exported_program_is_the_same_network(net, onnx_file, tmp_path):
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, SIZE, SIZE),)), path)
    program, file = read_model(path), read_model(onnx_file)
    assert program.oracle == "torch"
    assert [layer.kind for layer in program.space.model.layers] == [layer.kind for layer in file.space.model.layers]
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = net(images)
        for model in (program, file):
            found = model.supernet(images, model.space.largest)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_command_takes_it(adopted, tmp_path, capsys):
    logs = ["--logs", str(tmp_path / "logs")]
    assert compile_subnets(["--supernet", str(adopted), "--subnet", "largest", *logs, "--json"]) == 0
    assert result(capsys)["subnets"][0]["relative_error"] < 1e-5
    options = ["--supernet", str(adopted), *logs, "--json"]
    assert tune([*options, "--trials", "3"]) == 0
    tuned = result(capsys)
    assert tuned["space"].startswith("own-net-")
    assert tuned["measured_ms"] > 0
    assert predict([*options, "--subnet", "largest"]) == 0
    predicted = result(capsys)["subnets"][0]
    assert sum(part["predicted_ms"] for part in predicted["parts"]) == pytest.approx(predicted["predicted_ms"])
    assert predicted["basis"] == "measurement"
    (records,) = (tmp_path / "logs").rglob("latency.jsonl")
    records.unlink()
    assert predict([*options, "--subnet", "largest"]) == 2
    assert "kernels are not tuned" in capsys.readouterr().err
    assert bench([*options, "--subnet", "largest", "--against", "torch", "--seconds", "0.1", "--starts", "0"]) == 0
    assert result(capsys)["subnets"][0]["relative_error"]["torch"] < 1e-4
    assert search(["--supernet", str(adopted), "--out", str(tmp_path / "s"), "--max-latency-ms", "9", *logs]) == 2
    assert "nothing to search" in capsys.readouterr().err


def test_bench_takes_the_model_itself(onnx_file, tmp_path, capsys):
    logs = ["--logs", str(tmp_path / "logs"), "--subnet", "largest", "--against", "torch", "--seconds", "0.1"]
    assert bench(["--onnx", str(onnx_file), *logs, "--json"]) == 0
    assert result(capsys)["space"].startswith("own-net-")
    assert bench(["--onnx", str(onnx_file), "--space", "mbv3", *logs]) == 2


def test_a_bundle_computes_what_the_model_did(net, adopted, tmp_path, capsys):
    bundle = tmp_path / "bundle"
    asked = ["--supernet", str(adopted), "--subnet", "largest", "--out", str(bundle), "--logs", str(tmp_path / "logs")]
    assert deploy([*asked, "--json"]) == 0
    manifest = result(capsys)["manifest"]
    assert manifest["accuracy"]["test_top1"] is None
    assert manifest["accuracy"]["max_relative_logit_difference"] < 1e-4
    image = np.random.default_rng(3).standard_normal((1, SIZE, SIZE, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", image)
    done = subprocess.run(
        [bundle / "run", tmp_path / "image.npy", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        expected = net(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    assert str(int(expected.argmax())) in done.stdout


def test_an_elastic_supernet_computes_what_the_model_did(adopted):
    start = open_start(str(adopted))
    images = np.random.default_rng(0).integers(0, 256, (128, SIZE, SIZE, 3), np.uint8)
    split = Split(images, np.zeros(len(images), np.int64))
    dataset = Dataset("some", tuple("abcdef"), start.preprocess, split, split, held_out=0)
    elastic = start.elastic(dataset)
    space = elastic.supernet.space
    assert space.cardinality > 1
    batch = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = start.supernet(batch, start.supernet.space.largest)
        found = elastic.supernet(batch, space.largest)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(inputs, 32, 1), nn.Conv2d(32, outputs, 1)
        self.middle = nn.Conv2d(32, 32, 3, stride, 1, groups=groups)
        pooled = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))
        self.shortcut = pooled if stride > 1 else nn.Identity()

    def forward(self, maps):
        hidden = torch.relu(self.middle(torch.relu(self.reduce(maps))))
        return torch.relu(self.expand(hidden) + self.shortcut(maps))


@pytest.mark.parametrize("groups", [1, 4])
def test_a_residual_network_becomes_elastic(groups, pictures, tmp_path, capsys):
    torch.manual_seed(0)
    blocks = (Bottleneck(16, 24, 2, groups), Bottleneck(24, 24, 1, groups), Bottleneck(24, 24, 1, groups))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3))
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), *blocks, *head).eval()
    program = torch.export.export(net, (torch.zeros(1, 3, SIZE, SIZE),))
    torch.export.save(program, path := tmp_path / "net.pt2")
    assert adopt([str(path), "--out", str(tmp_path / "net")]) == 0
    start = open_start(str(tmp_path / "net"))
    images = np.random.default_rng(0).integers(0, 256, (128, SIZE, SIZE, 3), np.uint8)
    split = Split(images, np.zeros(len(images), np.int64))
    elastic = start.elastic(Dataset("some", tuple("abc"), start.preprocess, split, split, held_out=0))
    space = elastic.supernet.space
    assert space.stage_blocks == (3,)
    assert SubnetTable(space).quantities(space.genomes([space.smallest])).shape == (1, len(QUANTITIES))
    batch = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        torch.testing.assert_close(elastic.supernet(batch, space.largest), net(batch), rtol=1e-3, atol=1e-4)
    out = tmp_path / "trained"
    asked = ["--init", str(tmp_path / "net"), "--data", f"imagefolder:{pictures}", "--out", str(out)]
    steps = ["--steps", "3", "--batch", "8", "--host-threads", "1", "--accuracy-samples", "0", "--json"]
    assert train([*asked, *steps]) == 0
    capsys.readouterr()
    options = ["--supernet", str(out), "--logs", str(tmp_path / "logs"), "--random", "3", "--json"]
    assert compile_subnets(options) == 0
    assert {row["relative_error"] < 1e-4 for row in result(capsys)["subnets"]} == {True}


def test_training_from_a_model_makes_it_elastic(adopted, pictures, tmp_path, capsys):
    out = tmp_path / "trained"
    asked = ["--init", str(adopted), "--data", f"imagefolder:{pictures}", "--out", str(out), "--accuracy-samples", "0"]
    assert train([*asked, "--steps", "3", "--batch", "8", "--host-threads", "1", "--json"]) == 0
    capsys.readouterr()
    facts = read_facts(out / FILE_NAME)
    assert facts.space.endswith("-elastic")
    assert facts.classes == 3
    options = ["--supernet", str(out), "--logs", str(tmp_path / "logs"), "--random", "2", "--json"]
    assert compile_subnets(options) == 0
    assert {row["relative_error"] < 1e-4 for row in result(capsys)["subnets"]} == {True}


def test_int8_says_which_layer_it_lacks(adopted, tmp_path, capsys):
    options = ["--supernet", str(adopted), "--subnet", "largest", "--logs", str(tmp_path / "logs")]
    assert compile_subnets([*options, "--dtype", "int8"]) == 2
    assert "there is no int8 kernel for" in capsys.readouterr().err
    bundle = ["--supernet", str(adopted), "--subnet", "largest", "--out", str(tmp_path / "b")]
    assert deploy([*bundle, "--dtype", "int8"]) == 2
    assert "there is no int8 kernel for" in capsys.readouterr().err


def test_a_trained_folder_and_wrong_names_are_refused(onnx_file, pictures, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    assert adopt([str(onnx_file), "--out", str(tmp_path / "a"), "--classes", str(names)]) == 2
    assert "2 classes are named, the model has 6 outputs" in capsys.readouterr().err
    (tmp_path / "trained").mkdir()
    copied = tmp_path / "trained" / FILE_NAME
    copied.write_bytes(checkpoint_path(Path("mbv3-cifar")).read_bytes())
    assert adopt([str(onnx_file), "--out", str(tmp_path / "trained")]) == 2
    assert "supernet that was trained" in capsys.readouterr().err
    assert adopt([str(tmp_path / "none.onnx"), "--out", str(tmp_path / "a")]) == 2
    assert adopt([str(onnx_file), "--out", str(names)]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert adopt([str(onnx_file), "--out", str(tmp_path / "a"), "--std", "1e-320,1,1"]) == 2
    for mean in ("1,2", "nan,0,0", "123,116,103"):
        assert adopt([str(onnx_file), "--out", str(tmp_path / "a"), "--mean", mean]) == 2
    names.write_text("")
    assert adopt([str(onnx_file), "--out", str(tmp_path / "a"), "--classes", str(names)]) == 2
    assert adopt([str(onnx_file), "--out", str(tmp_path / "a"), "--data", f"imagefolder:{pictures}"]) == 2
    assert "3 classes, the model has 6 outputs" in capsys.readouterr().err
    assert compile_subnets(["--supernet", str(onnx_file)]) == 2
    assert "adopt it first" in capsys.readouterr().err


def test_adopting_twice_is_the_same_file_and_other_things_are_left_alone(onnx_file, pictures, tmp_path, capsys):
    out = tmp_path / "adopted"
    assert adopt([str(onnx_file), "--out", str(out)]) == 0
    before = (out / FILE_NAME).read_bytes()
    assert adopt([str(onnx_file), "--out", str(out)]) == 0
    assert (out / FILE_NAME).read_bytes() == before
    capsys.readouterr()
    archive = tmp_path / "model.onnx"
    with ZipFile(archive, "w") as file:
        file.writestr("x", "y")
    text = tmp_path / "model.pt2"
    text.write_text("text")
    for model, where, said in (
        (onnx_file, pictures, "holds other things"),
        (onnx_file, text, "is no folder"),
        (pictures, tmp_path / "new", "is no file"),
        (archive, tmp_path / "new", "is an archive, no ONNX model"),
        (text, tmp_path / "new", "is no archive, as exported torch programs are"),
    ):
        assert adopt([str(model), "--out", str(where)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_file_whose_name_is_no_text(onnx_file, tmp_path, capsys):
    model = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    try:
        shutil.copy(onnx_file, model)
    except OSError:
        pytest.skip("names here must be UTF-8")
    assert adopt([str(model), "--out", str(tmp_path / "a")]) == 0
    assert read_facts(tmp_path / "a" / FILE_NAME).training["adopted"] == "caf?.onnx"


def randomised(name: str) -> onnx.ModelProto:
    """A graph of onnx's backend tests, its constant weights replaced by random numbers."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{name}.onnx"
    model, rng = onnx.load(path), np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    kinds = {source: (node.op_type, place) for node in nodes for place, source in enumerate(node.input)}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            size = shapes[node.input[0]]
            kind, place = kinds[node.output[0]]
            if kind == "BatchNormalization":  # weight, bias, mean, variance
                values = rng.random(size) + 0.5 if place in (1, 4) else rng.standard_normal(size) * 0.1
                values = values * (0.4 if place == 1 else 1)  # sums of residuals stay in range
            else:
                values = rng.standard_normal(size) * (2 / max(1, np.prod(size[1:]))) ** 0.5
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_resnet_50_of_the_backend_tests(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "resnet50.onnx"
    onnx.save(randomised("light_resnet50"), path)
    assert adopt([str(path), "--out", str(tmp_path / "a"), "--json"]) == 0
    payload = result(capsys)
    assert payload["compared_with"] == "ONNX Runtime"
    assert payload["left_out"] == ["softmax"]
    options = ["--supernet", str(tmp_path / "a"), "--subnet", "largest", "--logs", str(tmp_path / "logs")]
    assert compile_subnets([*options, "--json"]) == 0
    assert result(capsys)["subnets"][0]["relative_error"] < 1e-4


@pytest.mark.parametrize("name", ["squeezenet", "densenet121", "shufflenet", "zfnet512", "inception_v1"])
def test_other_graphs_of_the_backend_tests_are_refused_by_name(name, tmp_path, capsys):
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    assert adopt([str(path), "--out", str(tmp_path / "a")]) == 2
    assert "LRN" in (said := capsys.readouterr().err) or "Concat" in said
