"""Official OFA checkpoints: names of both generations, and words on files that are something else."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from ofa_tvm.adopt import main as adopt
from ofa_tvm.data import SOURCES, load_dataset
from ofa_tvm.spaces import MBV3_W12, PROXYLESS, RESNET50D, SubnetConfig
from ofa_tvm.spaces.architectures import from_ofa
from ofa_tvm.spaces.resnet import identity_name
from ofa_tvm.supernet import ofa_files, ofa_resnet
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.facts import FILE_NAME, checkpoint_path, read_facts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.ofa_files import read_ofa
from ofa_tvm.support.errors import UserError

OLD = {".conv.inverted": ".mobile_inverted_conv.inverted", ".conv.depth": ".mobile_inverted_conv.depth"}
OLD |= {".conv.point": ".mobile_inverted_conv.point", "_conv.conv.weight": "_conv.conv.conv.weight"}
OLD |= {"bottleneck.conv.": "bottleneck.conv.conv.", "linear.conv.": "linear.conv.conv.", ".bn.": ".bn.bn."}


def random_supernet(space, seed=0):
    torch.manual_seed(seed)
    supernet = Supernet(space).eval()
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if "matrices" in name:
                tensor.add_(0.1 * torch.randn_like(tensor) / len(tensor) ** 0.5)
            elif tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return supernet


def official(supernet, matrices=True):
    """The supernet's tensors by OFA's present names."""
    space, own = supernet.space, supernet.state_dict()
    has_two_heads = space is not PROXYLESS
    found = {}
    for layer in space.network(space.largest).layers:
        for ours, theirs in ofa_files._pairs(layer, has_two_heads):
            found[theirs] = own[f"layers.{layer.name}.{ours}"]
        if layer.kind == "depthwise" and matrices and layer.name != "block0_depthwise":
            number = layer.name.removeprefix("block").split("_")[0]
            for size in (3, 5):
                name = f"blocks.{number}.conv.depth_conv.conv.{size + 2}to{size}_matrix"
                found[name] = own[f"layers.{layer.name}.matrices.{size}"]
    return found


def renamed(tensors, names):
    def new_name(name):
        for old, new in names.items():
            name = name.replace(old, new)
        return name

    return {new_name(name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("space", [MBV3_W12, PROXYLESS], ids=lambda space: space.name)
@pytest.mark.parametrize("names", [{}, OLD], ids=["present", "old"])
@torch.inference_mode()
def test_weights_arrive_where_they_belong(space, names, tmp_path):
    supernet = random_supernet(space)
    torch.save({"state_dict": renamed(official(supernet), names)}, tmp_path / "ofa_w1.0")
    read = read_ofa(tmp_path / "ofa_w1.0")
    own = supernet.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in read.state_dict().items())


def test_a_static_largest_network_is_an_elastic_one(tmp_path):
    supernet = random_supernet(MBV3_W12)
    torch.save(official(supernet, matrices=False), tmp_path / "static.pth")
    state = read_ofa(tmp_path / "static.pth").state_dict()
    assert all(torch.equal(one, torch.eye(len(one))) for name, one in state.items() if "matrices" in name)


def test_a_file_is_a_supernet_wherever_one_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "cache"))
    supernet = random_supernet(MBV3_W12.with_classes(7))
    torch.save({"state_dict": official(supernet)}, tmp_path / "ofa_w1.2")
    facts = read_facts(checkpoint_path(tmp_path / "ofa_w1.2"))
    assert (facts.space, facts.classes, facts.is_named) == ("mbv3-w1.2", 7, False)
    loaded, _ = load_supernet(tmp_path / "ofa_w1.2")
    assert torch.equal(loaded.state_dict()["layers.stem.weight"], supernet.state_dict()["layers.stem.weight"])


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_is_something_else_is_said(tmp_path):
    tensors = official(random_supernet(MBV3_W12))
    files = {
        "first_conv": ({"layer.weight": torch.zeros(1)}, "not an OFA checkpoint: it begins with layer.weight"),
        "wide": ({**tensors, "first_conv.conv.weight": torch.zeros(48, 3, 3, 3)}, "a stem of 48 channels"),
        "resnet": ({"input_stem.0.conv.weight": torch.zeros(1)}, "has no classifier.linear.weight"),
        "short": ({name: one for name, one in tensors.items() if "blocks.7." not in name}, "has no blocks.7.conv.inv"),
        "list": ([torch.zeros(1)], "holds no weights by name"),
    }
    for name, (content, message) in files.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=message):
            read_ofa(tmp_path / name)
    (tmp_path / "harmful").write_bytes(pickle.dumps({"state_dict": Harmful(tmp_path / "made")}))
    with pytest.raises(UserError, match="holds more than tensors"):
        read_ofa(tmp_path / "harmful")
    assert not (tmp_path / "made").exists()
    (tmp_path / "torn").write_bytes((tmp_path / "wide").read_bytes()[:5000])
    with pytest.raises(UserError, match="can be read"):
        read_ofa(tmp_path / "torn")


def hostile(path, made, kind):
    """A file that would make a folder if its pickle were opened."""
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Harmful(made)}))
    elif kind == "torch":
        torch.save({"state_dict": Harmful(made)}, path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(Harmful(made)))
    else:
        with path.open("wb") as file:
            np.savez(file, weight=np.array([Harmful(made)], dtype=object))


@pytest.mark.parametrize("kind", ["pickle", "torch", "zip", "objects"])
@pytest.mark.parametrize("name", ["supernet.safetensors", "net.pth", "net.pt", "net.pkl", "net.npz", "net"])
def test_pickles_are_never_opened_under_any_name(tmp_path, kind, name):
    hostile(path := tmp_path / name, tmp_path / "made", kind)
    for given in (path, tmp_path) if name == FILE_NAME else (path,):
        with pytest.raises(UserError, match=r"more than tensors|can be read|predicts accuracies|not an OFA") as refused:
            load_supernet(given)
        assert "restore it" not in str(refused.value)
    for source in SOURCES:
        with pytest.raises(UserError):
            load_dataset(f"{source}:{path}")
    assert not (tmp_path / "made").exists()


def resnet(supernet, rename=lambda name: name):
    """The tensors of OFA-ResNet50 by its names."""
    own = supernet.state_dict()
    return {
        rename(theirs): own[f"layers.{layer.name}.{ours}"]
        for layer in supernet.space.network(supernet.space.largest).layers
        for ours, theirs in ofa_resnet._pairs(layer)
    }


def dynamic(name):
    name = name.replace(".bn.", ".bn.bn.").replace("linear.", "linear.linear.")
    return name.replace("conv.weight", "conv.conv.weight")


def static(name):
    return name


@torch.inference_mode()
@pytest.mark.parametrize("names", [dynamic, static])
def test_resnet50_has_three_widths(names, tmp_path, capsys):
    supernet = random_supernet(RESNET50D.with_classes(4))
    torch.save({"state_dict": resnet(supernet, names)}, tmp_path / "ofa_resnet50")
    read = read_ofa(tmp_path / "ofa_resnet50")
    identity = f"layers.{identity_name(RESNET50D)}.weight"
    own = supernet.state_dict()
    assert torch.equal(read.state_dict()[identity].squeeze(), torch.eye(32))
    assert all(torch.equal(one, own[name]) for name, one in read.state_dict().items() if name != identity)
    assert adopt([str(tmp_path / "ofa_resnet50"), "--width", "0.65", "--out", str(tmp_path / "narrow")]) == 0
    narrow, facts = load_supernet(tmp_path / "narrow")
    assert facts.space == "resnet50d-w0.65"
    for name, tensor in narrow.state_dict().items():
        if name != identity:
            assert torch.equal(tensor, own[name][tuple(slice(0, size) for size in tensor.shape)])
    with pytest.raises(UserError, match=r"has no width 0\.7"):
        read_ofa(tmp_path / "ofa_resnet50", 0.7)
    assert adopt([str(tmp_path / "none"), "--width", "0.65", "--out", str(tmp_path / "x")]) == 2
    assert "--width is for official" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.zeros(1)},
        {"input_stem.0.conv.weight": torch.zeros(()), "classifier.linear.weight": torch.zeros(())},
        {"first_conv.conv.weight": torch.zeros(()), "classifier.linear.weight": torch.zeros(())},
    ],
)
def test_odd_tensors_are_refused(content, tmp_path):
    torch.save({"state_dict": content}, tmp_path / "odd")
    with pytest.raises(UserError):
        read_ofa(tmp_path / "odd")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="can be read"):
        read_ofa(tmp_path / "text")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blocks.3.conv1.bn.running_var", -1.0),
        ("blocks.0.conv2.conv.weight", float("nan")),
        ("input_stem.0.bn.bias", 1),
    ],
)
def test_numbers_that_no_training_gives_are_refused(name, value, tmp_path):
    tensors = resnet(random_supernet(RESNET50D.with_classes(4)))
    spoilt = torch.full_like(tensors[name], value, dtype=torch.int32 if value == 1 else torch.float32)
    torch.save({**tensors, name: spoilt}, tmp_path / "spoilt")
    with pytest.raises(UserError, match="holds what is no weight"):
        read_ofa(tmp_path / "spoilt")


MATRIX = "blocks.3.conv.depth_conv.conv.5to3_matrix"


@pytest.mark.filterwarnings("ignore:Sparse")
def test_matrices_and_tensors_without_values_are_refused(tmp_path):
    tensors = official(random_supernet(MBV3_W12))
    head = "classifier.linear.weight"
    for name, spoilt, said in (
        (MATRIX, torch.zeros(9, 8), r"has shape \(9, 8\), mbv3-w1.2 needs \(9, 9\)"),
        (MATRIX, torch.full((9, 9), float("nan")), "5to3_matrix .* holds what is no weight"),
        (MATRIX, torch.full((9, 9), 1e300, dtype=torch.float64), "holds what is no weight"),
        (MATRIX, torch.eye(9).to_sparse(), "5to3_matrix .* is no dense tensor"),
        (head, tensors[head].to_sparse(), "weight .* is no dense tensor"),
        (head, tensors[head].to_sparse_csr(), "weight .* is no dense tensor"),
        (head, tensors[head].to("meta"), "weight .* is no dense tensor"),
        (head, tensors[head][:1], "has a classifier of 1 classes, at least 2 are needed"),
        (head, tensors[head][:0], "has a classifier of 0 classes"),
    ):
        torch.save({**tensors, name: spoilt.clone()}, tmp_path / "spoilt")
        with pytest.raises(UserError, match=said):
            read_ofa(tmp_path / "spoilt")


def test_resnet50s_dicts_are_read():
    half = {"d": [0, 1, 0, 2, 1], "e": [0.2, 0.25] * 9, "w": 2, "r": [160]}
    config = from_ofa(half, RESNET50D)
    assert config.depths == (1, 3, 2, 6, 3)
    assert config.stages[1] == ((3, 20), (3, 25), (3, 20))
    assert config.stages[2] == ((3, 20), (3, 25))
    assert RESNET50D.to_ofa(from_ofa({**half, "e": 0.35, "d": 2}, RESNET50D))["d"] == [2, 2, 2, 2, 2]
    running = {**half, "e": [20] * 14}
    assert from_ofa(running, RESNET50D).depths == (1, 3, 2, 6, 3)
    with pytest.raises(UserError, match="w 0 is not width 2"):
        from_ofa({**half, "w": 0}, RESNET50D)
    with pytest.raises(UserError, match="is not width 2"):
        from_ofa({**half, "w": [2, 2, 1, 2, 2, 2]}, RESNET50D)
    for spoilt in (
        {**half, "d": [0, 3, 0, 0, 0]},
        {**half, "e": [0.5] * 18},
        {"d": 1, "e": 0.2},
        {**half, "ks": 3},
        {**half, "w": [2]},
        {**half, "e": 0.204},
        {**half, "d": [7, 1, 1, 1, 1]},
    ):
        with pytest.raises(UserError):
            from_ofa(spoilt, RESNET50D)


def test_the_last_block_of_proxyless_has_no_depth():
    config = from_ofa({"ks": [3] * 21, "e": [4] * 21, "d": [2, 3, 4, 2, 2, 1], "r": 128}, PROXYLESS)
    assert config.depths == (2, 3, 4, 2, 2, 1)
    assert PROXYLESS.to_ofa(config)["d"] == [2, 3, 4, 2, 2, 1]
    assert SubnetConfig.parse(config.key) == config
