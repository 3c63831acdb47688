"""From a supernet to a bundle that runs, through the command."""

import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fake_gpu import build_driver, emulated_cubin
from plain_cuda import PLAIN

import ofa_tvm.deploy as deploy_command
from ofa_tvm import data
from ofa_tvm.bundle import answers, gpu_bundle, speed
from ofa_tvm.bundle.folder import LIBRARY, ONNX, verify_bundle
from ofa_tvm.bundle.order import Order
from ofa_tvm.bundle.precision import PrecisionByBlock
from ofa_tvm.compiler.cpu.assembler import assemble
from ofa_tvm.compiler.cuda import build as cuda_kernels
from ofa_tvm.compiler.cuda import code as cuda_code
from ofa_tvm.compiler.cuda import emit
from ofa_tvm.compiler.cuda.device_code import machine_code
from ofa_tvm.compiler.cuda.emit import best_guess
from ofa_tvm.compiler.cuda.nvrtc import cuda_compiler
from ofa_tvm.compiler.cuda.program import CPU, link_gpu_program
from ofa_tvm.compiler.loaded_model import LoadedModel
from ofa_tvm.compiler.scheduled import virtual_machine
from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel, compile_loops
from ofa_tvm.compiler.tvm_api.names import Target
from ofa_tvm.data.dataset import Split
from ofa_tvm.hardware.machine import cpu_flags
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.checkpoint import load_supernet, save_supernet
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.ledger import estimated
from ofa_tvm.support.shipped import shipped_folder
from ofa_tvm.timing.window import Timing

needs_int8 = pytest.mark.skipif("avx2" not in cpu_flags(), reason="int8 needs AVX2")
needs_bfloat16 = pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="this machine lacks AVX512_BF16")
SUBNET = "r12.5x4.3x2-7x4"


@pytest.fixture(autouse=True)
def registered(tiny_space, tiny_dataset, monkeypatch):
    """The tiny space and data set by name."""
    monkeypatch.setitem(SPACES, tiny_space.name, tiny_space)
    monkeypatch.setitem(data.SOURCES, tiny_dataset.name, lambda path, progress: tiny_dataset)


@pytest.fixture(scope="module")
def checkpoint(tiny_space, tiny_dataset, tmp_path_factory):
    """A supernet of random weights; its training folder."""
    torch.manual_seed(3)
    facts = SupernetFacts(tiny_space.name, tiny_dataset.name, tiny_dataset.class_names, tiny_dataset.preprocess)
    folder = tmp_path_factory.mktemp("supernet")
    save_supernet(folder / "supernet.safetensors", Supernet(tiny_space), facts)
    return folder


@pytest.fixture
def run(checkpoint, tmp_path):
    """Run the command on the checkpoint."""

    def deployed(*options, supernet=checkpoint):
        arguments = ["--out", str(tmp_path / "bundle"), "--logs", str(tmp_path / "logs"), *options]
        return deploy_command.main([*arguments, *(["--supernet", str(supernet)] if supernet else [])])

    return deployed


def test_bundle_runs_and_says_what_it_is(run, checkpoint, tmp_path, capsys, tiny_dataset):
    assert run("--subnet", SUBNET, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema_version"] == 1
    record = payload["manifest"]
    bundle = tmp_path / "bundle"
    manifest = verify_bundle(bundle)
    assert record == manifest.record() == json.loads((bundle / "manifest.json").read_text())
    assert (manifest.subnet, manifest.space, manifest.classes) == (SUBNET, "tiny", 4)
    assert manifest.input.shape == (1, 12, 12, 3)
    assert manifest.accuracy.test_images == 40
    assert manifest.accuracy.test_top1 == manifest.accuracy.torch_test_top1
    assert manifest.accuracy.max_relative_logit_difference is not None
    assert manifest.accuracy.max_relative_logit_difference < 1e-4
    assert manifest.latency.measured_ms is not None
    assert manifest.latency.measured_ms > 0
    assert (manifest.target.tuned_kernels, manifest.latency.predicted_ms) == (0, None)
    assert sum(block.macs for block in manifest.blocks) == manifest.macs
    startup = manifest.startup
    assert startup is None or (startup.load_ms > 0 and startup.first_ms is not None and startup.first_ms > 0)
    assert [cost.phase for cost in manifest.cost] == [
        "deploy: load",
        "deploy: extract and calibrate",
        "deploy: runner",
        "deploy: export ONNX",
        "deploy: compile",
        "deploy: check",
        "deploy: measure",
    ]
    assert payload["cost"]["wall_s"] == pytest.approx(sum(cost.wall_s for cost in manifest.cost))
    onnx.checker.check_model(onnx.load(bundle / ONNX), full_check=True)

    supernet, _ = load_supernet(checkpoint)
    subnet = Evaluator(tiny_dataset, tiny_dataset.test).subnet(supernet, supernet.space.parse(SUBNET))
    images = preprocess(to_tensor(tiny_dataset.test.images[:1]), tiny_dataset.preprocess, 12)
    found = LoadedModel(bundle / LIBRARY)(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(found, subnet(images).numpy(), rtol=1e-3, atol=1e-4)

    assert run("--subnet", "smallest", "--check-images", "0") == 0
    text = capsys.readouterr().out
    assert "not checked" in text
    assert "what this deployment cost" in text
    accuracy = verify_bundle(bundle).accuracy
    assert (accuracy.test_images, accuracy.test_top1) == (0, None)
    assert "not checked" in accuracy.how


@needs_int8
def test_an_int8_bundle_is_checked_bit_for_bit(run, tmp_path, capsys):
    assert run("--subnet", SUBNET, "--dtype", "int8") == 0
    text = capsys.readouterr().out
    assert "in float32)" in text
    assert "of those of the int8 network in numpy" in text
    manifest = verify_bundle(tmp_path / "bundle")
    assert manifest.dtype == "int8"
    assert "-i8-" in manifest.target.fingerprint
    assert manifest.accuracy.max_relative_logit_difference == 0
    model = onnx.load(tmp_path / "bundle" / ONNX)
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}


@needs_bfloat16
def test_a_bfloat16_bundle_is_compared_with_its_reference(run, tmp_path, capsys):
    assert run("--subnet", SUBNET, "--dtype", "bfloat16", "--max-accuracy-drop", "100") == 0
    text = capsys.readouterr().out
    assert "in float32)" in text
    assert "of those of the bfloat16 network in numpy" in text
    manifest = verify_bundle(tmp_path / "bundle")
    assert manifest.dtype == "bfloat16"
    assert "-bf16-" in manifest.target.fingerprint
    assert manifest.accuracy.max_relative_logit_difference is not None
    assert manifest.accuracy.max_relative_logit_difference < 1e-2
    model = onnx.load(tmp_path / "bundle" / ONNX)
    assert {array.data_type for array in model.graph.initializer} == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize(
    ("lost", "most", "is_refused"), [(4, None, False), (100, None, True), (100, 0.09, False), (100, 0.05, True)]
)
def test_int8_may_not_lose_more_than_chance_explains(lost, most, is_refused):
    right = np.arange(1000) < 900
    still_right = right & (np.arange(1000) >= lost)
    if is_refused:
        with pytest.raises(OfaTvmError, match=r"int8 costs this subnet 10\.00 points"):
            answers.check_accuracy(still_right, right, "int8", most)
    else:
        answers.check_accuracy(still_right, right, "int8", most)


def clearer(split: Split) -> Split:
    """Less noise around the colours."""
    means = np.stack([split.images[split.labels == label].mean((0, 1, 2)) for label in range(4)])
    return Split((0.3 * split.images + 0.7 * means[split.labels][:, None, None]).astype(np.uint8), split.labels)


@pytest.fixture
def outlier(tiny_space, tiny_dataset, tmp_path, monkeypatch):
    """A supernet that knows the colours; some channels of block 1 are a large constant, which batch norm takes away."""
    train, test = clearer(tiny_dataset.all_training), clearer(tiny_dataset.test)
    dataset = replace(tiny_dataset, all_training=train, test=test)
    monkeypatch.setitem(data.SOURCES, dataset.name, lambda path, progress: dataset)
    torch.manual_seed(5)
    supernet = Supernet(tiny_space)
    state = supernet.state_dict()
    state["layers.block1_depthwise.norm.weight"][1:8:2] = 1e-3
    state["layers.block1_depthwise.norm.bias"][1:8:2] = 2e4
    subnet, features = Evaluator(dataset, dataset.test).subnet(supernet, tiny_space.parse(SUBNET)), []
    classifier = subnet.layers["classifier"]
    with classifier.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].flatten(1))):
        subnet(preprocess(to_tensor(dataset.train.images), dataset.preprocess, 12))
    colours = torch.nn.functional.one_hot(torch.from_numpy(dataset.train.labels)).float()
    state["layers.classifier.weight"].copy_(torch.linalg.lstsq(features[0], colours).solution.T)
    facts = SupernetFacts(tiny_space.name, dataset.name, dataset.class_names, dataset.preprocess)
    save_supernet(tmp_path / "outlier" / "supernet.safetensors", supernet, facts)
    return tmp_path / "outlier", dataset


@needs_int8
def test_a_block_that_int8_breaks_stays_float32(run, outlier, tmp_path, capsys):
    supernet, dataset = outlier
    assert run("--subnet", SUBNET, "--dtype", "int8", "--card", supernet=supernet) == 0
    text, progress = capsys.readouterr()
    assert "int8 costs this subnet" in progress
    bundle = tmp_path / "bundle"
    manifest = verify_bundle(bundle)
    precision, accuracy = manifest.precision, manifest.accuracy
    assert precision is not None
    assert (manifest.dtype, precision.blocks, precision.of_blocks) == ("int8", ("block1",), 6)
    in_float32 = {layer for layer, dtype in precision.layers.items() if dtype == "float32"}
    assert in_float32 == {"block1_expand", "block1_depthwise", "block1_project"}
    assert precision.words() in text
    assert precision.int8_lost > 0.3 > 0.05 > precision.most_lost
    assert accuracy.test_top1 is not None
    assert accuracy.torch_test_top1 is not None
    assert accuracy.test_top1 > accuracy.torch_test_top1 - 0.06 > 0.85
    assert accuracy.reference == "the int8 network with float32 layers in numpy"
    assert accuracy.max_relative_logit_difference is not None
    assert accuracy.max_relative_logit_difference < 0.1
    assert "int8, 1 of 6 blocks float32" in (bundle / "README.md").read_text()

    images = preprocess(to_tensor(dataset.test.images), dataset.preprocess, 12).permute(0, 2, 3, 1)
    np.save(tmp_path / "images.npy", images.contiguous().numpy())
    answered = subprocess.run(
        [bundle / "run", tmp_path / "images.npy", "--logits", tmp_path / "logits.npy"], capture_output=True, check=False
    )
    assert answered.returncode == 0, answered.stderr
    right = np.load(tmp_path / "logits.npy").argmax(1) == dataset.test.labels
    assert right.mean() == accuracy.test_top1


@needs_int8
def test_a_bound_that_int8_cannot_hold_is_refused(run, outlier, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PrecisionByBlock, "_loss", lambda self, kept: answers.Loss(3, 1, 32))
    monkeypatch.setattr(PrecisionByBlock, "_most_harmful_first", lambda self, blocks: list(blocks))
    supernet, _ = outlier
    assert run("--subnet", SUBNET, "--dtype", "int8", "--max-accuracy-drop", "0", supernet=supernet) == 2
    error = capsys.readouterr().err
    assert "no int8 network holds 0 points for sure: int8 loses 6.25 ± 12.25 points on 32 held-out images" in error
    assert "with 5 of 6 blocks in float32" in error
    assert not (tmp_path / "bundle").exists()


@needs_int8
def test_a_pick_in_its_own_precision(run, checkpoint, tmp_path, capsys):
    fingerprints = {dtype: load_target("x86", 1, dtype=dtype).fingerprint for dtype in ("float32", "int8")}
    folder = search_folder(tmp_path / "search", checkpoint, fingerprints=fingerprints)
    result = json.loads((tmp_path / "search" / "result.json").read_text())
    result["picks"][0]["dtype"] = "int8"
    (tmp_path / "search" / "result.json").write_text(json.dumps(result))
    assert run("--from", folder, "--pick", "1", supernet=None) == 0
    assert verify_bundle(tmp_path / "bundle").dtype == "int8"
    without: list[dict[str, Any]] = [{"fingerprints": {}}, {"picks": [{**result["picks"][0], "dtype": None}]}]
    for damaged in without:
        (tmp_path / "search" / "result.json").write_text(json.dumps({**result, **damaged}))
        assert run("--from", folder, "--pick", "1", supernet=None) == 2
        assert "the search's result is damaged" in capsys.readouterr().err


def search_folder(folder, checkpoint, **changes):
    pick = {
        "number": 1,
        "subnet": SUBNET,
        "predicted_ms": 0.5,
        "predicted_low_ms": 0.4,
        "predicted_high_ms": 0.6,
        "validation_top1": 0.25,
        "macs": 1000,
        "parameters": 100,
    }
    cost = [estimated("search", 100.0, 200.0).record()]
    result = {
        "space": "tiny",
        "supernet": str(checkpoint),
        "target": "x86",
        "threads": 1,
        "fingerprint": load_target("x86", 1).fingerprint,
        "picks": [pick],
    }
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"schema_version": 1, **result, "cost": cost, **changes}))
    return str(folder)


def test_pick_of_a_search(run, checkpoint, tmp_path, capsys):
    folder = search_folder(tmp_path / "search", checkpoint)
    assert run("--from", folder, "--pick", "2", supernet=None) == 2
    assert SUBNET in capsys.readouterr().err
    assert run("--from", folder, "--pick", "1", "--json", supernet=None) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["manifest"]["latency"]["predicted_ms"] == 0.5
    assert payload["manifest"]["accuracy"]["validation_top1"] == 0.25
    assert payload["cost"]["wall_s"] > 100


def test_pick_of_a_search_for_a_target_file(run, checkpoint, tmp_path, capsys):
    mine = tmp_path / "mine.toml"
    mine.write_text((shipped_folder("targets") / "x86.toml").read_text())
    facts = {
        "target": "mine",
        "target_source": str(mine),
        "fingerprint": load_target(str(mine), 1).fingerprint,
        "supernet_sha256": sha256_file(checkpoint / "supernet.safetensors"),
    }
    folder = search_folder(tmp_path / "search", checkpoint, **facts)
    assert run("--from", folder, "--pick", "1", "--json", supernet=None) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["target"]["name"] == "mine"


def test_pick_of_a_search_for_more_images_at_once(run, checkpoint, tmp_path, capsys):
    folder = search_folder(
        tmp_path / "search", checkpoint, batch=2, fingerprint=load_target("x86", 1, batch=2).fingerprint
    )
    assert run("--from", folder, "--pick", "1", "--json", supernet=None) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["input"]["shape"] == [2, 12, 12, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "f"}, "made on another machine or target"),
        ({"fingerprint": "f", "conditions": {"tvm": "0.1"}}, "the search was made with apache-tvm 0.1, and "),
        ({"target": "mine"}, "the target of the search, 'mine', cannot be used here"),
        ({"supernet_sha256": "0" * 64}, "is not the supernet that was searched"),
    ],
)
def test_picks_whose_figures_no_longer_hold_are_refused(run, checkpoint, tmp_path, capsys, changes, message):
    folder = search_folder(tmp_path / "search", checkpoint, **changes)
    assert run("--from", folder, "--pick", "1", supernet=None) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_bad_input_ends_with_2(run, checkpoint, tmp_path, capsys):
    def refused(message, *options, supernet=checkpoint):
        assert run(*options, supernet=supernet) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "bundle").exists()

    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((checkpoint / "supernet.safetensors").read_bytes()[:5000])
    refused("is damaged", "--subnet", "largest", supernet=damaged)
    refused("does not exist", "--subnet", "largest", supernet=tmp_path / "nothing")
    refused("is not a subnet key", "--subnet", "big")
    refused("resolution 99", "--subnet", "r99.3x2.3x2")
    refused("which subnet", "--out", str(tmp_path / "other"))
    both = tmp_path / "both.json"
    both.write_text('["r12.3x2.3x2", "r16.3x2.3x2"]')
    refused("names 2 subnets", "--arch", str(both))
    refused("which subnet", "--arch", str(both), "--subnet", "largest")
    refused("unknown data set", "--subnet", "largest", "--data", "mnist")
    refused("unknown target", "--subnet", "largest", "--target", "abacus")
    refused("result.json is missing", "--from", str(tmp_path), "--pick", "1")
    refused("--target arm, the", "--from", search_folder(tmp_path / "s", checkpoint), "--pick", "1", "--target", "arm")


def test_a_pick_in_another_way_is_a_command_to_paste(run, checkpoint, tmp_path, capsys):
    own = tmp_path / "my supernet"
    shutil.copytree(checkpoint, own)
    folder = search_folder(tmp_path / "s", own, batch=1, dtype="float32")
    same = ("--from", folder, "--pick", "1", "--target", "x86", "--threads", "1")
    assert run(*same, "--dtype", "int8", "--check-images", "9", "--card", supernet=None) == 2
    said = capsys.readouterr().err
    assert "with --dtype int8, the search was for --dtype float32\n" in said
    command = shlex.split(said.splitlines()[-1])
    assert command[:3] == ["python", "-m", "ofa_tvm.deploy"]
    options = f"--target x86 --threads 1 --batch 1 --dtype int8 --logs {tmp_path}/logs --check-images 9 --card".split()
    assert command[3:] == ["--supernet", str(own), "--subnet", SUBNET, *options, "--out", str(tmp_path / "bundle")]
    assert not (tmp_path / "bundle").exists()
    assert run(*same, "--dtype", "float32", supernet=None) == 0


def test_the_supernet_that_nobody_named_is_told(run, capsys):
    assert run("--subnet", "no-key", supernet=None) == 2
    assert "no --supernet is named: taking mbv3-cifar, which ships (10 classes, cifar10)" in capsys.readouterr().err


def test_other_images_than_the_trainings_are_told_and_never_taken_as_held_out(
    checkpoint, tiny_dataset, tmp_path, capsys
):
    supernet, facts = load_supernet(checkpoint)
    for trained, has_changed in ((tiny_dataset, False), (replace(tiny_dataset, held_out=31), True)):
        path = tmp_path / "trained" / "supernet.safetensors"
        save_supernet(path, supernet, replace(facts, training={"data": trained.digest}))
        deployment = Order(SUBNET, path.parent, load_target("x86")).deployment(None, tmp_path / "logs", 0, None)
        told = capsys.readouterr().err
        assert ("have changed since" in told) == has_changed
    with pytest.raises(UserError, match="held-out images cannot be told"):
        deployment._mixed(Evaluator(tiny_dataset, tiny_dataset.test).subnet(supernet, supernet.space.parse(SUBNET)), {})


@pytest.mark.parametrize("is_of_gpu", [True, False])
def test_float16_sums_may_differ_more_than_float16_storage(checkpoint, tiny_dataset, is_of_gpu):
    supernet, facts = load_supernet(checkpoint)
    subnet = Evaluator(tiny_dataset, tiny_dataset.test).subnet(supernet, supernet.space.parse(SUBNET))

    class Off:
        where = ""

        def __call__(self, images):
            logits = subnet(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
            return logits + np.float32(0.02) * np.abs(logits).max()

    library: Any = Off()
    check = answers.AnswerCheck(tiny_dataset, facts.preprocess, "float16", 1, 0, None, None, is_of_gpu)
    if is_of_gpu:
        with pytest.raises(OfaTvmError, match="differs from the torch subnet by 2"):
            check.run(library, subnet, subnet.folded())
    else:
        check.run(library, subnet, subnet.folded())


def test_images_of_other_classes_are_refused(run, tiny_dataset, monkeypatch, capsys):
    other = replace(tiny_dataset, class_names=("a", "b", "c", "d"))
    monkeypatch.setitem(data.SOURCES, "other", lambda path, progress: other)
    assert run("--subnet", "largest", "--data", "other") == 2
    assert "other classes" in capsys.readouterr().err


def test_wrong_library_is_not_put_in_place(run, tmp_path, monkeypatch, capsys):
    from ofa_tvm.compiler.cpu import assembler

    def wrong(network, weights, *rest):
        return assemble(network, {name: array * np.float32(0.9) for name, array in weights.items()}, *rest)

    monkeypatch.setattr(assembler, "assemble", wrong)
    assert run("--subnet", SUBNET) == 1
    assert "differs from the torch subnet" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "bundle" in path.name]


def test_wrong_answers_are_not_put_in_place(run, tmp_path, monkeypatch, capsys):
    """Also when the logits looked right: accuracy is counted on its own."""

    right = answers.run_in_batches
    monkeypatch.setattr(answers, "MAX_LOGIT_DIFFERENCE", {"float32": float("inf")})
    monkeypatch.setattr(answers, "run_in_batches", lambda *args: right(*args)[:, [1, 2, 3, 0]])
    code = run("--subnet", SUBNET)
    assert code == 1
    assert "the torch subnet on" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


CLOSE = {"float32": (1e-3, 1e-4), "float16": (1e-2, 1e-2)}
"""Tolerances of logits: relative, absolute."""


@pytest.fixture
def gpu_is_the_cpu(monkeypatch):
    """What is built for a GPU, in the same way for this CPU."""

    def network(network, weights, winners, target, linker, library, batch, dtype):
        compile_loops(network, weights, Target({"kind": "llvm", "num-cores": 1}), library, batch, dtype)

    def program(network, batch, linker, library):
        link_gpu_program(network, batch, linker, library, device=CPU)

    monkeypatch.setattr(cuda_kernels, "build_network", network)
    monkeypatch.setattr(gpu_bundle, "link_gpu_program", program)


@pytest.mark.parametrize(("device", "dtype"), [("pack", "float32"), ("local", "float32"), ("local", "float16")])
def test_a_gpus_bundle_runs_beside_tvms_libraries(
    run, checkpoint, tmp_path, capsys, tiny_dataset, gpu_is_the_cpu, monkeypatch, device, dtype
):
    """With the CPU in the place of the GPU: TVM's virtual machine, behind the functions that the runner calls."""
    monkeypatch.setattr(virtual_machine, "VirtualMachineModel", lambda library, kind: VirtualMachineModel(library))
    assert run("--target", "cuda-sm90", "--device", device, "--dtype", dtype, "--subnet", SUBNET, "--json") == 0
    manifest = verify_bundle(tmp_path / "bundle")
    assert {"network.so", "libtvm_ffi.so", "libtvm_runtime.so", "libtvm_runtime_cuda.so"} <= manifest.files.keys()
    if device == "pack":
        assert (manifest.accuracy.test_top1, manifest.accuracy.compared_images) == (None, 0)
        assert (manifest.latency.measured_ms, manifest.latency.estimated_ms) == (None, None)
    else:
        assert manifest.accuracy.test_top1 == pytest.approx(manifest.accuracy.torch_test_top1, abs=0.01)
        apart = manifest.accuracy.max_relative_logit_difference
        assert apart is not None
        assert apart < 1e-4 if dtype == "float32" else 1e-5 < apart < 1e-2
        assert manifest.latency.measured_ms is not None
        assert manifest.latency.measured_ms > 0

    supernet, _ = load_supernet(checkpoint)
    subnet = Evaluator(tiny_dataset, tiny_dataset.test).subnet(supernet, supernet.space.parse(SUBNET))
    images = preprocess(to_tensor(tiny_dataset.test.images[:5]), tiny_dataset.preprocess, 12)
    np.save(tmp_path / "images.npy", np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))
    command = [tmp_path / "bundle" / "run", tmp_path / "images.npy", "--logits", tmp_path / "logits.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    relative, absolute = CLOSE[dtype]
    found, expected = np.load(tmp_path / "logits.npy"), subnet(images).numpy()
    np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute)

    (tmp_path / "bundle" / "network.so").unlink()
    command = [tmp_path / "bundle" / "run", tmp_path / "bundle" / "model.so", tmp_path / "images.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "network.so" in done.stderr


@pytest.mark.skipif(cuda_compiler() is None, reason="neither NVRTC nor nvcc is installed")
def test_a_gpus_bundle_holds_machine_code_and_says_that_nothing_was_run(run, tmp_path, capsys):
    assert run("--target", "cuda-sm90", "--subnet", SUBNET) == 0
    text = capsys.readouterr().out
    assert "nothing was run" in text
    assert machine_code(tmp_path / "bundle" / "network.so")
    assert b"libtvm_runtime_cuda.so\0" in (tmp_path / "bundle" / LIBRARY).read_bytes()


def test_a_bundle_of_kernels_from_templates_needs_a_driver_alone(run, checkpoint, tmp_path, monkeypatch, tiny_dataset):
    """With a stand-in for the driver, and the plainest template's kernels compiled for this CPU."""
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    monkeypatch.setattr(emit, "TEMPLATES", {"plain": PLAIN})
    monkeypatch.setattr(cuda_code, "cubin", emulated_cubin(kernels))
    best_guess.cache_clear()
    assert run("--target", "cuda-sm90-templates", "--subnet", SUBNET, "--json") == 0
    best_guess.cache_clear()
    manifest = verify_bundle(tmp_path / "bundle")
    assert manifest.files.keys() <= {LIBRARY, ONNX, "run"}
    assert (manifest.latency.measured_ms, manifest.target.name) == (None, "cuda-sm90-templates")

    supernet, _ = load_supernet(checkpoint)
    subnet = Evaluator(tiny_dataset, tiny_dataset.test).subnet(supernet, supernet.space.parse(SUBNET))
    images = preprocess(to_tensor(tiny_dataset.test.images[:3]), tiny_dataset.preprocess, 12)
    np.save(tmp_path / "images.npy", np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()))

    def answered(*options, **settings):
        command = [tmp_path / "bundle" / "run", tmp_path / "images.npy", *options]
        environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(tmp_path), **settings}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    build_driver(tmp_path)
    done = answered("--logits", tmp_path / "logits.npy")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), subnet(images).numpy(), rtol=1e-3, atol=1e-4)
    done = answered("--benchmark", "--windows", "1", "--window-ms", "1")
    assert done.returncode == 0, done.stderr
    done = answered(FAKE_CUDA_ARCHITECTURE="80")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "this was compiled for sm_90, and the GPU of this machine, Fake GPU, is sm_80\nerror: "
    )


def test_a_missing_linker_is_told_before_anything_is_loaded(run, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine.toml"
    mine.write_text((shipped_folder("targets") / "x86.toml").read_text().replace('"g++"', '"no-such-g++"'))
    monkeypatch.setattr(Order, "deployment", lambda *arguments: pytest.fail("it was loaded"))
    assert run("--subnet", SUBNET, "--target", str(mine)) == 2
    assert "no-such-g++ is not installed\n  install it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("budget_ms", "timing", "held", "said"),
    [
        (1e-6, True, False, "1e-06 ms: does not hold here"),
        (1e6, False, None, "1e+06 ms: not known to hold here"),
    ],
)
def test_a_pick_says_whether_its_budget_still_holds(
    run, checkpoint, tmp_path, monkeypatch, capsys, budget_ms, timing, held, said
):
    monkeypatch.setattr(Timing, "is_sound", property(lambda self: timing))
    monkeypatch.setattr(speed, "until_undisturbed", lambda measure: measure())
    folder = search_folder(tmp_path / "search", checkpoint)
    result = json.loads((tmp_path / "search" / "result.json").read_text())
    result["picks"][0]["budget_ms"] = budget_ms
    (tmp_path / "search" / "result.json").write_text(json.dumps(result))
    assert run("--from", folder, "--pick", "1", "--check-images", "0", supernet=None) == 0
    out, err = capsys.readouterr()
    latency = verify_bundle(tmp_path / "bundle").latency
    assert (latency.budget_ms, latency.budget_held) == (budget_ms, held)
    assert said in out
    assert ("does not hold now" in err) == (held is False)
