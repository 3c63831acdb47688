"""The held-out split, and looking data sets up by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ofa_tvm.data import SOURCES, load_dataset
from ofa_tvm.support.errors import UserError


def rows(split):
    return {image.tobytes() for image in split.images}


def test_held_out_images_never_train(tiny_dataset):
    assert (len(tiny_dataset.train), len(tiny_dataset.validation), len(tiny_dataset.test)) == (128, 32, 40)
    assert not rows(tiny_dataset.train) & rows(tiny_dataset.validation)
    assert rows(tiny_dataset.train) | rows(tiny_dataset.validation) == rows(tiny_dataset.all_training)


def test_the_split_is_fixed(tiny_dataset):
    again = replace(tiny_dataset)
    assert np.array_equal(again.validation.images, tiny_dataset.validation.images)
    assert np.array_equal(again.validation.labels, tiny_dataset.validation.labels)


def test_nothing_held_out(tiny_dataset):
    whole = replace(tiny_dataset, held_out=0)
    assert (len(whole.train), len(whole.validation)) == (160, 0)


def test_every_image_is_held_out_once_in_a_cross_validation(tiny_dataset):
    folds = tiny_dataset.folds(3)
    held_out = [rows(fold.validation) for fold in folds]
    assert set().union(*held_out) == rows(tiny_dataset.all_training)
    assert sum(len(one) for one in held_out) == len(rows(tiny_dataset.all_training))
    assert {len(fold.validation) for fold in folds} == {53, 54}
    for fold in folds:
        assert not rows(fold.train) & rows(fold.validation)
        assert len(fold.train) + len(fold.validation) == 160
    assert len({fold.digest for fold in folds}) == 3


def test_unknown_source_lists_the_known():
    with pytest.raises(UserError, match=r"unknown data set 'mnist'.*\n.*cifar10, fashion-mnist, imagefolder"):
        load_dataset("mnist:/somewhere")


def test_a_folder_without_its_kind_is_told_what_to_write(tmp_path):
    with pytest.raises(UserError) as caught:
        load_dataset(str(tmp_path))
    given = caught.value.hint.split()[1]
    assert given == f"imagefolder:{tmp_path}"
    with pytest.raises(UserError, match=f"{tmp_path} has no folder train"):
        load_dataset(given)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_names_a_missing_path(name, tmp_path):
    with pytest.raises(UserError, match="missing-folder"):
        load_dataset(f"{name}:{tmp_path / 'missing-folder'}")
