"""Fashion-MNIST from small generated idx files."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from ofa_tvm.data import fashion_mnist, load_dataset
from ofa_tvm.support.errors import UserError

COUNTS = {"train": 12, "t10k": 5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four files that the loader takes for the real ones."""
    rng = np.random.default_rng(0)
    for prefix, count in COUNTS.items():
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, content in {
            f"{prefix}-images-idx3-ubyte.gz": bytes(16) + pixels.tobytes(),
            f"{prefix}-labels-idx1-ubyte.gz": bytes(8) + labels.tobytes(),
        }.items():
            (tmp_path / name).write_bytes(gzip.compress(content))
            monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(content).hexdigest())
    return tmp_path


def test_grey_images_get_a_border_and_three_channels(folder):
    dataset = load_dataset(f"fashion-mnist:{folder}")
    assert dataset.all_training.images.shape == (12, 32, 32, 3)
    assert dataset.test.images.shape == (5, 32, 32, 3)
    assert dataset.all_training.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    raw = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    images = dataset.test.images
    for channel in range(3):
        assert images[:, 2:30, 2:30, channel].tobytes() == raw
    border = np.ones((32, 32), bool)
    border[2:30, 2:30] = False
    assert not images[:, border].any()
    assert len(dataset.class_names) == 10


def test_default_folder_is_the_debian_package(folder, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "FOLDER", folder)
    assert len(load_dataset("fashion-mnist").test) == 5


def test_missing_file_says_how_to_get_it(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.gz does not exist\n.*apt-get install dataset-fashion"):
        load_dataset(f"fashion-mnist:{folder}")


def test_damaged_files_are_named(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:middle], b"no gzip", whole[:middle] + bytes(100) + whole[middle + 100 :]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz cannot be read"):
            load_dataset(f"fashion-mnist:{folder}")


def test_other_content_fails_the_checksum(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(20)))
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.gz is damaged \(its checksum differs\)"):
        load_dataset(f"fashion-mnist:{folder}")
