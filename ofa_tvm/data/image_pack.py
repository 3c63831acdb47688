"""A data set as a folder of losslessly compressed files, to carry to a machine without network.

Images lie side by side in WebP files of a few megabytes, so that they can be carried a few files at a time.
``manifest.json`` names the classes and holds the labels and every file's SHA-256.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ofa_tvm.data.dataset import ClassName, Dataset, Images, Preprocess, Split
from ofa_tvm.data.photograph import DAMAGED, opened
from ofa_tvm.support.console import Task
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file, write_atomic, write_json
from ofa_tvm.support.typed import Count, read_form

MANIFEST = "manifest.json"
FORMAT = "ofa_tvm images 1"
COPY = "copy the folder again"
WIDTH, HEIGHT = 800, 4096
"""Most pixels of a file, unless one image has more; WebP allows 16,383."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Labels(_Part):
    training: list[Count]
    test: list[Count]


class _Manifest(_Part):
    format: Literal["ofa_tvm images 1"]
    name: str
    class_names: Annotated[tuple[ClassName, ...], Field(min_length=1)]
    preprocess: Preprocess
    held_out: Count
    size: Annotated[int, Field(gt=0, le=HEIGHT)]
    labels: _Labels
    files: dict[Annotated[str, Field(pattern=r"^(training|test)-[0-9]+\.webp$")], str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if max([*self.labels.training, *self.labels.test], default=0) >= len(self.class_names):
            raise ValueError("a label has no class")
        if self.held_out > len(self.labels.training):
            raise ValueError("more images are held out than there are")
        return self


_FORM = TypeAdapter(_Manifest)


def write_pack(dataset: Dataset, folder: Path) -> None:
    """Write all images of a data set.

    Args:
        dataset: what to write.
        folder: where; made if it is missing.

    Raises:
        UserError: the folder holds a data set already.
    """
    path = folder / MANIFEST
    if path.exists():
        raise UserError(f"{folder} holds a data set already", "remove it, or give another --out")
    splits = {"training": dataset.all_training, "test": dataset.test}
    size = dataset.all_training.images.shape[1]
    grid = _grid(size)
    manifest = {
        "format": FORMAT,
        "name": dataset.name,
        "class_names": dataset.class_names,
        "preprocess": asdict(dataset.preprocess),
        "held_out": dataset.held_out,
        "size": size,
        "labels": {name: split.labels.tolist() for name, split in splits.items()},
    }
    count = math.prod(grid)
    parts = {
        f"{name}-{number:04}.webp": split.images[start : start + count]
        for name, split in splits.items()
        for number, start in enumerate(range(0, len(split), count))
    }
    with Task("packing images", len(parts)) as task:
        for name, images in parts.items():
            content = io.BytesIO()
            Image.fromarray(_mosaic(images, grid)).save(content, "WEBP", lossless=True, exact=True)
            write_atomic(folder / name, content.getvalue())
            task.advance()
    write_json(path, {**manifest, "files": {name: sha256_file(folder / name) for name in parts}})


def load(path: str | None, progress: Callable[[str], None]) -> Dataset:
    """Load a folder that ``write_pack`` wrote.

    Args:
        path: the folder.
        progress: not called.

    Raises:
        UserError: no folder is named, or files are missing or damaged.
    """
    manifest, folder = _manifest(path), Path(path or "")
    missing = [name for name in manifest.files if not (folder / name).is_file()]
    if missing:
        count = len(manifest.files)
        raise UserError(f"{len(missing)} of {count} files of {folder} are missing, {missing[0]} first", COPY)
    damaged = [name for name, digest in manifest.files.items() if sha256_file(folder / name) != digest]
    if damaged:
        raise UserError(f"{', '.join(damaged[:5])} in {folder}: damaged (the checksum differs)", COPY)
    try:
        training, test = (
            _split([folder / name for name in manifest.files if name.startswith(f"{part}-")], labels, manifest.size)
            for part, labels in (("training", manifest.labels.training), ("test", manifest.labels.test))
        )
    except DAMAGED as error:
        raise UserError(f"{folder / MANIFEST} is damaged: {error}", COPY) from error
    return Dataset(manifest.name, manifest.class_names, manifest.preprocess, training, test, manifest.held_out)


def class_names(path: str | None) -> tuple[str, ...]:
    """Names of a pack's classes.

    Raises:
        UserError: no folder is named, or its manifest is missing or damaged.
    """
    return _manifest(path).class_names


def _manifest(path: str | None) -> _Manifest:
    if path is None:
        raise UserError("an image pack is a folder", "name it: --data pack:FOLDER")
    return read_form(Path(path) / MANIFEST, "manifest of the image pack", _FORM, COPY)


def _grid(size: int) -> tuple[int, int]:
    """Images in a row, and rows, of one file."""
    return max(1, WIDTH // size), max(1, HEIGHT // size)


def _mosaic(images: Images, grid: tuple[int, int]) -> Images:
    columns, size = grid[0], images.shape[1]
    rows = -(-len(images) // columns)
    whole = np.zeros((rows * columns, size, size, 3), np.uint8)
    whole[: len(images)] = images
    return whole.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


def _split(files: Sequence[Path], labels: list[int], size: int) -> Split:
    parts: list[Images] = []
    for file in files:
        with opened(file, ("WEBP",)) as image:
            mosaic = np.asarray(image.convert("RGB"))
        rows, columns = mosaic.shape[0] // size, mosaic.shape[1] // size
        parts.append(mosaic.reshape(rows, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3))
    images = np.concatenate(parts)[: len(labels)]
    if len(images) < len(labels):
        raise ValueError(f"there are {len(labels)} labels for {len(images)} images")
    return Split(images, np.asarray(labels, np.int64))
