"""Dataset: images in memory as uint8, with the held-out split that search and predictors may see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field

from ofa_tvm.support.text import has_controls

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


LEAST, MOST = 1e-4, 10.0
"""Of a deviation, and also of a mean, of colours between 0 and 1 that can be meant."""
Mean = Annotated[float, Field(ge=0, lt=MOST)]
Deviation = Annotated[float, Field(ge=LEAST, lt=MOST)]


def class_name(name: str) -> str:
    """A name that can be printed on one line: without line ends, escape sequences and bytes that are no text.

    Raises:
        ValueError: it is another one.
    """
    if not name.strip() or has_controls(name):
        raise ValueError(f"{name!r} is no name of a class: it cannot be printed on one line")
    return name


ClassName = Annotated[str, AfterValidator(class_name)]
"""What an output means."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, size, size, 3) uint8 and labels (n,)."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Split:
        """The given rows."""
        return Split(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Preprocess:
    """What turns an RGB image into the network's input: scale to [0, 1], subtract ``mean``, divide by ``std``.

    Other resolutions are bilinear resizes (half-pixel centres, antialiased) of the uint8 image's values.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set.

    ``held_out`` of the training images are never trained on: they serve predictors and the search. In a fixed
    permutation they are those before the last ``held_out_end``. The test images are used for reports only.
    """

    name: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    all_training: Split
    test: Split
    held_out: int
    held_out_end: int = 0

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        order = np.random.default_rng(20200427).permutation(len(self.all_training))
        return np.roll(order, self.held_out_end)

    @cached_property
    def digest(self) -> str:
        """Identity of these images, wherever they are stored."""
        sha = hashlib.blake2b(digest_size=12)
        for split in (self.all_training, self.test):
            sha.update(f"{split.images.shape} {split.labels.tolist()}".encode())
            sha.update(np.ascontiguousarray(split.images).data)
        end = f" {self.held_out_end}" if self.held_out_end else ""
        sha.update(f"{self.class_names} {self.held_out}{end}".encode())
        return sha.hexdigest()

    def folds(self, count: int) -> list[Dataset]:
        """``count`` copies of the data set, each with another part held out; every training image is held out once."""
        ends = np.linspace(0, len(self.all_training), count + 1).astype(int)
        return [replace(self, held_out=int(end - start), held_out_end=int(start)) for start, end in pairwise(ends)]

    @cached_property
    def train(self) -> Split:
        """Images to train on."""
        return self.all_training.take(np.sort(self._order[: len(self._order) - self.held_out]))

    @cached_property
    def validation(self) -> Split:
        """Held-out images."""
        return self.all_training.take(np.sort(self._order[len(self._order) - self.held_out :]))
