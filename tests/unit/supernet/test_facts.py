"""What a checkpoint says about itself is typed: what cannot be is named."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ofa_tvm.data import checked_names
from ofa_tvm.supernet.facts import (
    FACTS_SEAL,
    FORMAT,
    OLD_FORMAT,
    TENSORS_SEAL,
    checkpoint_path,
    chosen_space,
    digest_of_facts,
    read_facts,
    space_and_checkpoint,
)
from ofa_tvm.support.errors import UserError

FACTS = {
    "space": "mbv3-cifar",
    "data": "cifar10",
    "class_names": ["cat", "dog \U0001f415"],
    "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "training": {"plan": {"resolutions": [32], "seed": 0}, "steps_done": 7},
    "own": "",
}


@pytest.fixture
def write(tmp_path):
    path = tmp_path / "supernet.safetensors"

    def written(text: str, more: Mapping[str, str] | None = None):
        header = {"format": OLD_FORMAT, "facts": text, **(more or {})}
        save_file({"weight": np.zeros(1, np.float32)}, path, header)
        return path

    return written


def test_facts_are_read(write):
    facts = read_facts(write(json.dumps(FACTS)))
    assert (facts.classes, facts.resolutions, facts.folds, facts.is_named) == (2, (32,), 1, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preprocess": {"mean": [float("nan")] * 3, "std": [1, 1, 1]}}, "key 'preprocess.mean.0': NaN is no number"),
        ({"preprocess": {"mean": ["a", "b", "c"], "std": [1, 1, 1]}}, "key 'preprocess.mean.0'"),
        ({"preprocess": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "key 'preprocess.std.1'"),
        ({"preprocess": {"mean": [0, 0], "std": [1, 1, 1]}}, "key 'preprocess.mean"),
        ({"class_names": [1, 2]}, "key 'class_names.0'"),
        ({"class_names": []}, "key 'class_names'"),
        ({"class_names": ["cat", "\x1b[31mdog"]}, "cannot be printed on one line"),
        ({"space": ["mbv3"]}, "key 'space'"),
        ({"space": "moon"}, "unknown space 'moon'"),
        ({"training": []}, "key 'training'"),
        ({"training": {"folds": 0}}, "folds"),
        ({"training": {"plan": 3}}, "plan"),
        ({"training": {"steps_done": -1}}, "steps_done"),
        ({"own": "[" * 5000}, "nested"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(write, change, said):
    with pytest.raises(UserError) as caught:
        print(read_facts(write(json.dumps({**FACTS, **change}))).search_space)
    assert said in str(caught.value)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null"), tmp_path):
        with pytest.raises(UserError, match=r"is no regular file\n  give a training's folder"):
            read_facts(path)


def test_changed_facts_are_noticed(write):
    text = json.dumps(FACTS)
    seals = {"format": FORMAT, FACTS_SEAL: digest_of_facts(text), TENSORS_SEAL: "0"}
    read_facts(write(text, seals))
    with pytest.raises(UserError, match="not what their hash says"):
        read_facts(write(text.replace("cat", "cow"), seals))
    for change in ({"format": OLD_FORMAT}, {"surprise": "1"}):
        with pytest.raises(UserError, match="other keys than format"):
            read_facts(write(text, {**seals, **change}))
    with pytest.raises(UserError, match="other keys than format"):
        read_facts(write(text, {"format": FORMAT, FACTS_SEAL: seals[FACTS_SEAL]}))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[0m", "\udcff", " ", "\u2028"])
def test_names_that_cannot_be_printed_are_refused(name):
    with pytest.raises(UserError, match="cannot be printed on one line"):
        checked_names(("fine", name), "imagefolder:there")


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x4B50])
def test_a_header_whose_length_reads_like_a_pickle_or_zip_is_still_ours(write, length):
    path = write(json.dumps(FACTS))
    content = path.read_bytes()
    (before,) = struct.unpack_from("<Q", content)
    header = content[8 : 8 + before].rstrip().ljust(length)
    path.write_bytes(struct.pack("<Q", length) + header + content[8 + before :])
    assert len(header) == length and read_facts(checkpoint_path(path)).space == "mbv3-cifar"
    assert checkpoint_path(path.parent) == path


def test_classes_other_than_the_supernets_are_refused():
    shipped = Path("mbv3-cifar")
    with pytest.raises(UserError, match="the supernet has 10 classes, not 7"):
        chosen_space(shipped, None, 7)
    assert chosen_space(shipped, None, 10) == chosen_space(shipped, None)
    space, checkpoint = space_and_checkpoint(None, "mbv3-cifar", 7)
    assert (space.classes, checkpoint) == (7, None), "the supernet that ships tells nothing of other classes"
    assert space_and_checkpoint(None, "mbv3-cifar", None)[1] == checkpoint_path(shipped)
