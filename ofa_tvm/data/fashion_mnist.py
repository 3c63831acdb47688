"""Fashion-MNIST (Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset", 2017; MIT licence).

Read from the four gzipped idx files of the authors or of the Debian package ``dataset-fashion-mnist``. The grey
28x28 images get a black border of two pixels, as their own background is black, and three equal channels.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.data.dataset import Dataset, Preprocess, Split
from ofa_tvm.support.errors import UserError

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASS_NAMES = (
    "t-shirt or top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# Mean and standard deviation of the training images with their border.
PREPROCESS = Preprocess(mean=(0.2190, 0.2190, 0.2190), std=(0.3318, 0.3318, 0.3318))
HELD_OUT = 5000
BORDER = 2
IMAGES_HEADER_BYTES = 16
LABELS_HEADER_BYTES = 8
# SHA-256 of the unpacked files: how they were compressed differs between sources.
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
HINT = (
    "run 'apt-get install dataset-fashion-mnist', or get the four .gz files from "
    "https://github.com/zalandoresearch/fashion-mnist and name their folder: --data fashion-mnist:PATH"
)


def load(path: str | None, progress: Callable[[str], None]) -> Dataset:
    """Load from a folder with the four gzipped files.

    Args:
        path: the folder; None for where the Debian package puts it.
        progress: not called, as reading takes a second.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = FOLDER if path is None else Path(path)
    return Dataset("fashion-mnist", CLASS_NAMES, PREPROCESS, _split(folder, "train"), _split(folder, "t10k"), HELD_OUT)


def _split(folder: Path, prefix: str) -> Split:
    pixels = _read(folder, f"{prefix}-images-idx3-ubyte.gz")[IMAGES_HEADER_BYTES:].reshape(-1, 28, 28)
    labels = _read(folder, f"{prefix}-labels-idx1-ubyte.gz")[LABELS_HEADER_BYTES:]
    grey = np.pad(pixels, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    return Split(np.repeat(grey[..., None], 3, axis=3), labels.astype(np.int64))


def _read(folder: Path, name: str) -> NDArray[np.uint8]:
    path = folder / name
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise UserError(f"Fashion-MNIST file {path} does not exist", HINT) from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"Fashion-MNIST file {path} cannot be read: {error}", HINT) from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UserError(f"Fashion-MNIST file {path} is damaged (its checksum differs)", HINT)
    return np.frombuffer(content, dtype=np.uint8)
