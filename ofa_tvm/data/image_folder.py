"""Any folder of images in ImageNet's layout: ``train/<class>/*.jpg`` and, if there is one, ``val/`` or ``test/``.

The largest square in the centre of each image is resized, once, into one array in the cache folder that is
memory-mapped afterwards. Its name is a digest of the files' names, sizes and times.

The size is the median shorter side of a sample of the training images, at most 224, rounded down to a multiple of 4;
smaller images are enlarged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tvm.data.dataset import Dataset, Images, Preprocess, Split
from ofa_tvm.data.photograph import DAMAGED, centre_square, read_rgb, shorter_side
from ofa_tvm.support.cores import process_cores
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import cache_folder, write_atomic
from ofa_tvm.support.text import has_controls, printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TEST_FOLDERS = ("val", "test")
MAX_SIZE = 224
SIZE_STEP = 4
SIZE_SAMPLE = 100
MIN_IMAGES = 10
HELD_OUT = 1000
"""Images that are held out at least, unless that is more than a quarter of them."""
REPORT_EVERY = 10_000
PREPARATION = 3
"""Version of the preparation of images, so that a cache of another version is not used."""
FEW = 5
"""Files that are left out that a message names."""
MAX_NAMED = 20
"""Damaged images that a message names."""
# ImageNet's, whatever the images: the first batch norm absorbs the difference.
PREPROCESS = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HINT = "it needs train/<class>/*.jpg (or png, webp, bmp, gif, tif) and may have val/<class>/ or test/<class>/"


@dataclass(frozen=True)
class _Files:
    """Image files and their class numbers, and files beside them that are none."""

    paths: tuple[Path, ...] = ()
    labels: tuple[int, ...] = ()
    others: tuple[Path, ...] = ()


def load(path: str | None, progress: Callable[[str], None]) -> Dataset:
    """Load a folder. Without ``val/`` and ``test/``, a tenth of the training images are the test images.

    Args:
        path: the folder.
        progress: called with what is being done.

    Raises:
        UserError: the layout differs, a class is empty, or an image is damaged; names the folder or file.
    """
    root, names = _root(path), class_names(path)
    training = _scan(root / "train", names)
    if len(training.paths) < MIN_IMAGES:
        raise UserError(f"{root / 'train'} holds {len(training.paths)} images, at least {MIN_IMAGES} are needed")
    test_folder = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    test = _scan(test_folder, names) if test_folder else _Files()
    if others := [*training.others, *test.others]:
        progress(f"left out, as their names are of no picture: {_listed(others)}")
    if loose := [*_pictures(root / "train"), *(_pictures(test_folder) if test_folder else [])]:
        progress(f"left out, as they are in no class folder: {_listed(loose)}")
    if test_folder and (untested := [names[number] for number in sorted({*training.labels} - {*test.labels})]):
        listed = ", ".join(untested[:FEW]) + (f" and {len(untested) - FEW} more" if len(untested) > FEW else "")
        progress(f"beware: {test_folder} has no images of {listed}: accuracies on test images say nothing of them")

    images = _decoded(root, training.paths + test.paths, _choose_size(training.paths), progress)
    count = len(training.paths)
    all_training = Split(images[:count], np.asarray(training.labels, dtype=np.int64))
    test_split = Split(images[count:], np.asarray(test.labels, dtype=np.int64))
    if test_folder is None:
        order = np.random.default_rng(count).permutation(count)
        tenth = count // 10
        test_split = all_training.take(np.sort(order[:tenth]))
        all_training = all_training.take(np.sort(order[tenth:]))
    held_out = max(len(all_training) // 10, min(HELD_OUT, len(all_training) // 4))
    return Dataset(f"imagefolder:{root}", names, PREPROCESS, all_training, test_split, held_out)


def class_names(path: str | None) -> tuple[str, ...]:
    """Names of a folder's classes.

    Raises:
        UserError: the layout differs, or a name cannot be printed.
    """
    train = _root(path) / "train"
    if not train.is_dir():
        raise UserError(f"{train.parent} has no folder train", HINT)
    names = tuple(folder.name for folder in _subfolders(train))
    if len(names) < 2:
        raise UserError(f"{train} holds {len(names)} class folders, at least two are needed", HINT)
    if bad := next(filter(has_controls, names), None):
        raise UserError(f"class folder '{printable(bad)}' has control characters or is not UTF-8", "rename it")
    return names


def _root(path: str | None) -> Path:
    if not path:
        raise UserError("imagefolder needs a folder", "--data imagefolder:PATH")
    return Path(path).resolve()


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _scan(folder: Path, class_names: tuple[str, ...]) -> _Files:
    numbers = {name: number for number, name in enumerate(class_names)}
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    for class_folder in _subfolders(folder):
        if class_folder.name not in numbers:
            raise UserError(f"{class_folder} is a class that train has no folder for", HINT)
        visible = sorted(file for file in class_folder.iterdir() if not file.name.startswith("."))
        files = _pictures(class_folder)
        others += [file for file in visible if file.suffix.lower() not in SUFFIXES]
        if not files:
            raise UserError(f"class folder {class_folder} holds no images", "fill it or remove it; " + HINT)
        paths += files
        labels += [numbers[class_folder.name]] * len(files)
    if not paths:
        raise UserError(f"{folder} holds no class folders", HINT)
    return _Files(tuple(paths), tuple(labels), tuple(others))


def _pictures(folder: Path) -> list[Path]:
    """What is named as a picture in a folder."""
    visible = (file for file in folder.iterdir() if not file.name.startswith("."))
    return sorted(file for file in visible if file.suffix.lower() in SUFFIXES)


def _listed(paths: list[Path]) -> str:
    """The first few of many paths."""
    more = [f"and {len(paths) - FEW} more"] if len(paths) > FEW else []
    return ", ".join([printable(str(path)) for path in paths[:FEW]] + more)


def _damaged(problems: list[str]) -> UserError:
    """One error for all damaged images; names only the first ones of very many."""
    named = [f"image {problem}" for problem in problems[:MAX_NAMED]]
    more = [f"and {len(problems) - MAX_NAMED} more"] if len(problems) > MAX_NAMED else []
    return UserError("\n".join([*named, *more]), "replace or remove " + ("them" if len(problems) > 1 else "it"))


def _choose_size(paths: tuple[Path, ...]) -> int:
    sides = []
    for path in paths[:: max(1, len(paths) // SIZE_SAMPLE)]:
        with suppress(*DAMAGED):  # decoding reports every damaged one
            sides.append(shorter_side(path))
    return max(SIZE_STEP, min(MAX_SIZE, int(np.median(sides or [MAX_SIZE]))) // SIZE_STEP * SIZE_STEP)


def _decoded(root: Path, paths: tuple[Path, ...], size: int, progress: Callable[[str], None]) -> Images:
    """(len(paths), size, size, 3) from the cache, which is filled first if need be."""
    shape = (len(paths), size, size, 3)
    cached = cache_folder() / "imagefolder" / f"{_digest(root, paths, size)}.npy"
    images = _open(cached, shape)
    if images is None:
        progress(f"decoding {len(paths)} images of {root} to {size}x{size} (once)")
        write_atomic(cached, lambda temporary: _decode_all(temporary, paths, shape, progress))
        images = _open(cached, shape)
        assert images is not None
    return images


def _digest(root: Path, paths: tuple[Path, ...], size: int) -> str:
    sha = hashlib.sha256(b"%d %b %d" % (PREPARATION, os.fsencode(root), size))
    for path in paths:
        size_bytes, changed_ns = 0, 0
        with suppress(OSError):  # decoding reports every broken link
            size_bytes, changed_ns = (facts := path.stat()).st_size, facts.st_mtime_ns
        sha.update(b"\0%b\0%d\0%d" % (os.fsencode(path.relative_to(root)), size_bytes, changed_ns))
    return sha.hexdigest()[:24]


def _open(cached: Path, shape: tuple[int, ...]) -> Images | None:
    """The mapped array, or None if there is none that fits. Copy-on-write: torch wants writable memory."""
    try:
        images: Images = np.load(cached, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _decode_all(target: Path, paths: tuple[Path, ...], shape: tuple[int, ...], progress: Callable[[str], None]) -> None:
    images = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)

    def decode(row: int) -> str:
        try:
            images[row] = centre_square(read_rgb(paths[row]), shape[1])
        except DAMAGED as error:
            return f"{printable(str(paths[row]))} cannot be read: {error}"
        return ""

    damaged = []
    with ThreadPoolExecutor(process_cores()) as pool:
        for done, problem in enumerate(pool.map(decode, range(len(paths))), 1):
            damaged += [problem] if problem else []
            if done % REPORT_EVERY == 0:
                progress(f"decoded {done} of {len(paths)} images")
    if damaged:
        raise _damaged(damaged)
    images.flush()
