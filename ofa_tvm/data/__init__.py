"""Data sets by name. A new source is one file here and one line in ``SOURCES``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ofa_tvm.data import cifar10, fashion_mnist, image_folder, image_pack
from ofa_tvm.data.dataset import Dataset, Preprocess, Split, class_name
from ofa_tvm.support.errors import UserError

Loader = Callable[[str | None, Callable[[str], None]], Dataset]

SOURCES: dict[str, Loader] = {
    "cifar10": cifar10.load,
    "fashion-mnist": fashion_mnist.load,
    "imagefolder": image_folder.load,
    "pack": image_pack.load,
}


CLASSES: dict[str, Callable[[str | None], tuple[str, ...]]] = {
    "cifar10": lambda path: cifar10.CLASS_NAMES,
    "fashion-mnist": lambda path: fashion_mnist.CLASS_NAMES,
    "imagefolder": image_folder.class_names,
    "pack": image_pack.class_names,
}
"""What tells the names of a source's classes without its images."""


def known_classes(source: str) -> tuple[str, ...] | None:
    """Names of the classes of ``name`` or ``name:PATH``; None where only its images tell them.

    Raises:
        UserError: unknown name, or what tells them is missing or damaged.
    """
    name, path = _named(source)
    return CLASSES[name](path) if name in CLASSES else None


def load_dataset(source: str, progress: Callable[[str], None] = lambda message: None) -> Dataset:
    """Load ``name`` or ``name:PATH``.

    Raises:
        UserError: unknown name, or files that are missing or damaged.
    """
    name, path = _named(source)
    dataset = SOURCES[name](path, progress)
    checked_names(dataset.class_names, source)
    return dataset


def _named(source: str) -> tuple[str, str | None]:
    """Name and path of a source.

    Raises:
        UserError: unknown name.
    """
    name, _, path = source.partition(":")
    if name not in SOURCES:
        fits = f"give imagefolder:{source}" if Path(source).is_dir() else f"choose one of {', '.join(SOURCES)}"
        raise UserError(f"unknown data set '{name}'", f"{fits} (name or name:PATH)")
    return name, path or None


def checked_names(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Names of classes that can be printed.

    Raises:
        UserError: one cannot.
    """
    for name in names:
        try:
            class_name(name)
        except ValueError as error:
            raise UserError(f"{where}: {error}", "rename it") from error
    return names


__all__ = ["SOURCES", "Dataset", "Preprocess", "Split", "checked_names", "known_classes", "load_dataset"]
