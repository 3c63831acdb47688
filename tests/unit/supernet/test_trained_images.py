"""Held-out images are known of the images of a training only, wherever those are stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.data import image_pack
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.trained_images import other_images, require_trained_images
from ofa_tvm.support.errors import UserError

HERE = Path("mine")


def facts_of(dataset, **training):
    return SupernetFacts("tiny", dataset.name, dataset.class_names, dataset.preprocess, training)


def fewer(dataset):
    return replace(dataset, all_training=dataset.all_training.take(np.arange(1, len(dataset.all_training))))


def test_images_are_known_by_their_content(tiny_dataset, tmp_path):
    facts = facts_of(tiny_dataset, data=tiny_dataset.digest)
    image_pack.write_pack(tiny_dataset, tmp_path)
    packed = image_pack.load(str(tmp_path), print)
    for same in (tiny_dataset, packed, replace(tiny_dataset, name="imagefolder:/elsewhere")):
        require_trained_images(same, facts, HERE)
    with pytest.raises(UserError, match=f"the images of {tiny_dataset.name} have changed since mine was trained"):
        require_trained_images(fewer(tiny_dataset), facts, HERE)
    with pytest.raises(UserError, match="other has other images than mine was trained on"):
        require_trained_images(replace(fewer(tiny_dataset), name="other"), facts, HERE)


def test_any_images_do_where_those_of_the_training_are_not_known(tiny_dataset):
    require_trained_images(fewer(tiny_dataset), facts_of(tiny_dataset), HERE)


def test_a_supernet_of_all_images_is_known_with_its_cross_validation(tiny_dataset):
    whole, fold = replace(tiny_dataset, held_out=0), tiny_dataset.folds(3)[1]
    facts, part = facts_of(whole, data=whole.digest, folds=3), facts_of(whole, data=fold.digest, part_of=3)
    assert not other_images(tiny_dataset, facts, HERE)
    assert other_images(fewer(tiny_dataset), facts, HERE)
    assert not other_images(fold, part, HERE)
    with pytest.raises(UserError, match="mine is a part of a cross-validation"):
        require_trained_images(tiny_dataset, part, HERE)
