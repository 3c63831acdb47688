"""A data set packed to be carried is the same one where it is unpacked; what is missing or damaged is named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ofa_tvm import pack_data
from ofa_tvm.data import SOURCES, image_pack, load_dataset
from ofa_tvm.data.image_pack import MANIFEST, write_pack
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file


@pytest.fixture
def packed(tiny_dataset, tmp_path, monkeypatch):
    """A folder of files of 48 images each at most."""
    monkeypatch.setattr(image_pack, "WIDTH", 100)
    monkeypatch.setattr(image_pack, "HEIGHT", 130)
    folder = tmp_path / "pack"
    write_pack(tiny_dataset, folder)
    return folder


def test_every_pixel_and_label_comes_back(packed, tiny_dataset):
    names = sorted(path.name for path in packed.iterdir())
    assert names == [MANIFEST, "test-0000.webp", *(f"training-{number:04}.webp" for number in range(4))]
    found = load_dataset(f"pack:{packed}")
    for one, other in ((found.all_training, tiny_dataset.all_training), (found.test, tiny_dataset.test)):
        assert np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
        assert (one.images.dtype, one.labels.dtype) == (np.dtype(np.uint8), np.dtype(np.int64))
    assert np.array_equal(found.validation.images, tiny_dataset.validation.images)
    assert (found.name, found.class_names) == (tiny_dataset.name, tiny_dataset.class_names)
    assert found.preprocess == tiny_dataset.preprocess


def test_images_larger_than_a_file_get_one_each(tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(image_pack, "WIDTH", 10)
    monkeypatch.setattr(image_pack, "HEIGHT", 10)
    few = replace(tiny_dataset, all_training=tiny_dataset.test.take(np.arange(3)), test=tiny_dataset.test, held_out=1)
    write_pack(few, tmp_path)
    assert np.array_equal(load_dataset(f"pack:{tmp_path}").test.images, few.test.images)


def test_a_missing_file_is_named(packed):
    (packed / "training-0002.webp").unlink()
    with pytest.raises(UserError, match=r"1 of 5 files of .* are missing, training-0002\.webp first"):
        load_dataset(f"pack:{packed}")


def test_a_damaged_file_is_named(packed):
    path = packed / "training-0001.webp"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"training-0001\.webp in .*: damaged"):
        load_dataset(f"pack:{packed}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "is damaged: key 'format'"),
        ({"labels": None}, "is damaged"),
        ({"size": "x"}, "is damaged"),
        ({"files": {}}, "is damaged"),
        ({"preprocess": {"mean": [0, 0, 0]}}, "is damaged"),
    ],
)
def test_a_damaged_manifest(packed, change, said):
    path = packed / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=said):
        load_dataset(f"pack:{packed}")


def test_a_picture_of_another_kind_is_refused(packed):
    manifest = json.loads((packed / MANIFEST).read_text())
    Image.new("RGB", (100, 130)).save(path := packed / "test-0000.webp", "PNG")
    manifest["files"][path.name] = sha256_file(path)
    (packed / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is damaged: it is none of WEBP"):
        load_dataset(f"pack:{packed}")


def test_no_folder_named():
    with pytest.raises(UserError, match="name it: --data pack:FOLDER"):
        load_dataset("pack")


def test_another_data_set_is_not_overwritten(packed, tiny_dataset):
    before = (packed / MANIFEST).read_bytes()
    with pytest.raises(UserError, match="holds a data set already"):
        write_pack(tiny_dataset, packed)
    assert (packed / MANIFEST).read_bytes() == before


def test_the_command(tiny_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SOURCES, "tiny", lambda path, progress: tiny_dataset)
    assert pack_data.main(["--data", "tiny", "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["folder"]) == (200, str(tmp_path / "out"))
    assert said["size_bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert pack_data.main(["--data", "tiny", "--out", str(tmp_path / "out")]) == 2
