"""A bundle with a card: its header and numbers are right, and what it says to run, runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from runner_headers import needs_stb

import ofa_tvm.deploy as deploy_command
from ofa_tvm import data
from ofa_tvm.api.bundles import load_bundle
from ofa_tvm.bundle.card import BENCHMARKS, DATASETS, EXAMPLE, largest_top1
from ofa_tvm.bundle.folder import LIBRARY, ONNX, README, bundle_bytes, verify_bundle
from ofa_tvm.bundle.order import known_licence
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.amounts import size
from ofa_tvm.support.errors import UserError

SUBNET = "r12.5x4.3x2-7x4"
BUILD = {"c": ("gcc", "example.c"), "cpp": ("g++", "example.cc")}


@pytest.fixture(scope="module")
def supernet(tiny_space, tiny_dataset, tmp_path_factory):
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("card")
    facts = SupernetFacts(tiny_space.name, tiny_dataset.name, tiny_dataset.class_names, tiny_dataset.preprocess)
    save_supernet(folder / "supernet.safetensors", Supernet(tiny_space), facts)
    (folder / "accuracy.json").write_text(json.dumps({"test_top1": {"largest": 0.5, "smallest": 0.25}}))
    return folder


@pytest.fixture(scope="module")
def deploy(supernet, tiny_space, tiny_dataset):
    def run(*options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SPACES, tiny_space.name, tiny_space)
            patch.setitem(data.SOURCES, tiny_dataset.name, lambda path, progress: tiny_dataset)
            patch.setitem(DATASETS, tiny_dataset.name, "someone/tiny")
            where = ["--supernet", str(supernet), "--logs", str(supernet / "logs")]
            return deploy_command.main(["--subnet", SUBNET, *where, *map(str, options)])

    return run


@pytest.fixture(scope="module")
def made(deploy, supernet):
    assert deploy("--out", supernet / "bundle", "--card", "--license", "mit") == 0
    return supernet / "bundle"


@pytest.fixture
def bundle(made, tmp_path):
    """A copy whose images are not zeros: what the snippets would classify is told from what they should."""
    return shutil.copytree(made, tmp_path / "bundle")


def header(text):
    """The metadata: each line is a name and a value that is JSON."""
    inside = text.split("---\n")[1]
    return {name: json.loads(value) for name, _, value in (line.partition(": ") for line in inside.splitlines())}


def blocks(bundle, language):
    return re.findall(rf"```{language}\n(.*?)```", (bundle / README).read_text(), re.S)


def expected(bundle):
    """The class of an image of zeros."""
    loaded = load_bundle(bundle)
    return int(loaded.logits(np.zeros(loaded.manifest.input.shape, np.float32)).argmax())


def test_the_header_is_a_hubs(made):
    found = header((made / README).read_text())
    manifest = verify_bundle(made)
    assert list(found) == ["license", "library_name", "pipeline_tag", "tags", "datasets", "metrics", "model-index"]
    assert (found["license"], found["library_name"]) == ("mit", "ofa_tvm")
    assert (found["pipeline_tag"], found["datasets"], found["metrics"]) == (
        "image-classification",
        ["someone/tiny"],
        ["accuracy"],
    )
    assert {"ofa_tvm", "x86", "float32"} <= set(found["tags"])
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": manifest.accuracy.test_top1}]


def test_numbers_of_the_card_are_the_manifests(made):
    text, manifest = (made / README).read_text(), verify_bundle(made)
    accuracy, latency = manifest.accuracy, manifest.latency
    assert accuracy.test_top1 is not None
    assert accuracy.torch_test_top1 is not None
    error = (accuracy.test_top1 * (1 - accuracy.test_top1) / accuracy.test_images) ** 0.5
    assert f"{accuracy.test_top1:.2%} ± {error:.2%} (standard error) of {accuracy.test_images} test images" in text
    assert "| in float32 |" not in text, "it is"
    assert "target kind llvm; " in text
    assert not re.search(r"conditions: .*[{}\[\]']", text)
    assert f"| largest subnet | 50.00%, as the training counted (this: {100 * (accuracy.test_top1 - 0.5):+.2f}" in text
    assert f"{latency.measured_ms:.3f} ms a call of 1" in text
    benchmarks = json.loads((made / BENCHMARKS).read_text())
    assert (benchmarks["latency"]["ms"], benchmarks["latency"]["how"]) == (latency.measured_ms, "measured")
    assert benchmarks["largest_subnet_top1"] == 0.5
    assert benchmarks["start"]["peak_memory_bytes"] > 1e6
    assert f"{size(benchmarks['start']['peak_memory_bytes'])} at most" in text
    assert manifest.startup is not None
    assert manifest.startup.load_range_ms is not None
    assert manifest.startup.load_range_ms[0] <= manifest.startup.load_ms <= manifest.startup.load_range_ms[1]
    assert f"(measured, median of {manifest.startup.starts} starts)" in text
    library, graph = (manifest.files[name].bytes for name in (LIBRARY, ONNX))
    assert (benchmarks["library_bytes"], benchmarks["onnx_bytes"]) == (library, graph)
    assert f"| size | machine code {size(library)}, ONNX file {size(graph)}; " in text
    assert bundle_bytes(made, manifest) == sum(path.stat().st_size for path in made.iterdir())
    assert f"| deployment | {sum(cost.wall_s for cost in manifest.cost):.1f} |" in text
    inference = benchmarks["sci"]["parts"][-1]
    assert inference["part"] == "inference of 1,000,000 images"
    assert inference["emissions"]["value"] == inference["operational"]["value"] + inference["embodied"]["value"] > 0
    assert f"| {inference['energy']['text']} | {inference['emissions']['text']} |" in text
    assert not re.search(r"\{\{|\}\}|None|Undefined", text)


def test_the_card_may_be_edited_and_its_other_files_are_hashed_like_the_rest(bundle, deploy, capsys):
    assert {README, EXAMPLE, BENCHMARKS} <= verify_bundle(bundle).files.keys()
    (bundle / README).write_text("another card")
    verify_bundle(bundle)
    assert subprocess.run([bundle / "run", "--benchmark"], check=False, capture_output=True).returncode == 0
    assert deploy("--out", bundle) == 2
    assert "README.md was edited and would be overwritten" in capsys.readouterr().err
    assert (bundle / README).read_text() == "another card"
    (bundle / README).unlink()
    verify_bundle(bundle)
    (bundle / EXAMPLE).write_text("another example")
    with pytest.raises(UserError, match=r"example\.py is damaged"):
        verify_bundle(bundle)
    assert subprocess.run([bundle / "run", "--benchmark"], check=False, capture_output=True).returncode == 2


@pytest.mark.parametrize("language", BUILD)
def test_snippets_in_c_and_cpp_run(bundle, language):
    (source,) = blocks(bundle, language)
    compiler, name = BUILD[language]
    assert f"`{compiler} {name} -ldl`" in (bundle / README).read_text()
    (bundle / name).write_text(source)
    subprocess.run([compiler, "-Wall", "-Werror", name, "-o", "example", "-ldl"], cwd=bundle, check=True)
    done = subprocess.run(["./example"], cwd=bundle, capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected(bundle)


def test_the_snippet_in_python_runs(bundle):
    (source,) = blocks(bundle, "python")
    done = subprocess.run([sys.executable, "-c", source], cwd=bundle, capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected(bundle)


@pytest.mark.parametrize("suffix", [pytest.param("jpg", marks=needs_stb)])
def test_the_example_and_the_command_line_classify_a_picture_alike(bundle, tmp_path, suffix):
    pixels = np.random.default_rng(5).integers(0, 255, (30, 47, 3), np.uint8)
    (bundle / "photos").mkdir()
    for picture in (f"photo.{suffix}", "photos/one.png"):
        Image.fromarray(pixels).save(bundle / picture)
    said = {}
    commands = [line for block in blocks(bundle, "sh") for line in block.splitlines() if line]
    assert commands == ["./run photo.jpg", "./run photos/ > answers.jsonl", "./run --benchmark"]
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=bundle, capture_output=True, text=True, check=True)
        said[command] = done.stdout
    example = [sys.executable, str(bundle / EXAMPLE), str(bundle / "photos" / "one.png")]
    found = subprocess.run(example, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    (answer,) = map(json.loads, (bundle / "answers.jsonl").read_text().splitlines())
    lines = [line.split() for line in found.splitlines()]
    assert [line[-1] for line in lines] == [one["name"] for one in answer["top"]]
    shares = [100 * one["probability"] for one in answer["top"]]
    assert [float(line[0]) for line in lines] == pytest.approx(shares, abs=0.02)
    assert "p50" in said["./run --benchmark"]


def test_a_licence_that_nobody_stated_is_said_to_be_unknown(deploy, supernet, tmp_path, capsys):
    assert deploy("--out", tmp_path / "bundle", "--card", "--check-images", "0") == 0
    assert "licence of the weights is unknown; give --license" in capsys.readouterr().err
    found = header((tmp_path / "bundle" / README).read_text())
    assert found["license"] == "unknown"
    assert "model-index" not in found
    assert "| accuracy | not checked |" in (tmp_path / "bundle" / README).read_text()
    assert (known_licence(None), known_licence(supernet)) == ("apache-2.0", "unknown")


def test_a_licence_without_a_card_is_refused(deploy, tmp_path, capsys):
    assert deploy("--out", tmp_path / "bundle", "--license", "mit") == 2
    assert "--license is for a card" in capsys.readouterr().err


def test_data_sets_of_the_hub_are_known_by_the_names_that_images_come_with():
    assert DATASETS.keys() <= data.SOURCES.keys()


@pytest.mark.parametrize("text", ["", "[]", '{"test_top1": 3}', '{"test_top1": {"largest": "high"}}'])
def test_a_training_that_does_not_tell_its_largest_is_no_error(tmp_path, text):
    assert largest_top1(tmp_path) is None
    (tmp_path / "accuracy.json").write_text(text)
    assert largest_top1(tmp_path) is None
