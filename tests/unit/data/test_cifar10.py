"""CIFAR-10 from small generated files of both layouts."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from ofa_tvm.data import cifar10, load_dataset
from ofa_tvm.support.errors import UserError

PER_FILE = 4
BINARY_NAMES = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]


@pytest.fixture
def arrays(monkeypatch):
    """Six files' worth of images and labels, which the loader takes for the real ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6 * PER_FILE, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 6 * PER_FILE, dtype=np.uint8)
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())
    monkeypatch.setattr(cifar10, "TRAINING_IMAGES", 5 * PER_FILE)
    return images, labels


def write_binary(folder, images, labels):
    folder.mkdir(parents=True)
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.concatenate([labels[:, None], planes], axis=1)
    for name, part in zip(BINARY_NAMES, np.split(records, 6), strict=True):
        part.tofile(folder / name)


def write_png(folder, images, labels):
    folder.mkdir(parents=True)
    for name, part in zip(BINARY_NAMES, np.split(images, 6), strict=True):
        Image.fromarray(part.reshape(PER_FILE, -1, 3)).save(folder / name.replace(".bin", ".png"))
    (folder / "train_lables.json").write_text(json.dumps(labels[:-PER_FILE].tolist()))
    (folder / "test_lables.json").write_text(json.dumps(labels[-PER_FILE:].tolist()))


@pytest.mark.parametrize("write", [write_binary, write_png])
@pytest.mark.parametrize("packed", [False, True])
def test_both_layouts_from_folder_and_archive(tmp_path, arrays, write, packed):
    images, labels = arrays
    folder = tmp_path / "package"
    write(folder / "inner", images, labels)
    source = folder
    if packed:
        source = tmp_path / "archive.tgz"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(folder, "package")
    dataset = load_dataset(f"cifar10:{source}")
    assert np.array_equal(dataset.all_training.images, images[: 5 * PER_FILE])
    assert np.array_equal(dataset.test.images, images[5 * PER_FILE :])
    assert np.array_equal(dataset.test.labels, labels[5 * PER_FILE :])
    assert dataset.test.labels.dtype == np.int64


def test_fake_files_fail_the_checksum(tmp_path):
    write_binary(tmp_path / "fake", np.zeros((6, 32, 32, 3), np.uint8), np.zeros(6, np.uint8))
    with pytest.raises(UserError, match=r"fake is incomplete or damaged \(its checksum differs\)"):
        load_dataset(f"cifar10:{tmp_path / 'fake'}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data_batch_3.bin", b"short", "cannot be read"),
        ("test_batch.bin", None, "cannot be read"),
        ("data_batch_1.bin", None, "no CIFAR-10 files"),
    ],
)
def test_damaged_binary_files(tmp_path, arrays, name, content, said):
    write_binary(tmp_path / "data", *arrays)
    if content is None:
        (tmp_path / "data" / name).unlink()
    else:
        (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_dataset(f"cifar10:{tmp_path / 'data'}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("data_batch_2.png", b"no png", "it is none of PNG"),
        ("data_batch_2.png", b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;", "it is none of PNG"),
        ("train_lables.json", b"{", "Expecting"),
        ("train_lables.json", b"[300]", "300"),
        ("test_lables.json", b"7", "int"),
    ],
)
def test_damaged_png_files(tmp_path, arrays, name, content, said):
    write_png(tmp_path / "data", *arrays)
    (tmp_path / "data" / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot be read: .*{said}"):
        load_dataset(f"cifar10:{tmp_path / 'data'}")


def test_truncated_archive(tmp_path, arrays):
    write_binary(tmp_path / "data", *arrays)
    path = tmp_path / "archive.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "data", "data")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:2000] + b"\0" * 2000 + whole[4000:], b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"archive.tgz (is not a readable archive|cannot be read)"):
            load_dataset(f"cifar10:{path}")


def test_cache_is_filled_once_and_checked(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    fetched: list[int] = []

    def download(progress):
        fetched.append(1)
        return arrays

    monkeypatch.setattr(cifar10, "_download", download)
    for _ in range(2):
        assert np.array_equal(load_dataset("cifar10").test.images, arrays[0][5 * PER_FILE :])
    assert len(fetched) == 1
    cached = tmp_path / "cifar10.npz"
    whole = cached.read_bytes()
    flipped = bytearray(whole)
    flipped[5000] ^= 255
    for content in (whole[:3000], b"", b"no zip", bytes(flipped)):
        cached.write_bytes(content)
        with pytest.raises(UserError, match=r"cifar10\.npz"):
            load_dataset("cifar10")


def test_without_network_and_npm_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    monkeypatch.setattr(cifar10, "URL", (tmp_path / "nothing").as_uri())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    messages: list[str] = []
    with pytest.raises(UserError, match=r"npm is not installed\n.*cifar10:PATH"):
        load_dataset("cifar10", messages.append)
    assert "was not reached" in messages[-1]
