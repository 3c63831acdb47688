"""Dataset: images in memory as uint8, with the held-out split that search and predictors may see."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


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

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"scale": 1 / 255, "mean": list(self.mean), "std": list(self.std), "resize": "bilinear, antialiased"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set.

    ``held_out`` of the training images (the last ones of a fixed permutation) never train: they serve predictors
    and the search. The test images only report.
    """

    name: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    all_training: Split
    test: Split
    held_out: int

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.random.default_rng(20200427).permutation(len(self.all_training))

    @cached_property
    def digest(self) -> str:
        """What tells these images from others, wherever they lie."""
        sha = hashlib.blake2b(digest_size=12)
        for split in (self.all_training, self.test):
            sha.update(f"{split.images.shape} {split.labels.tolist()}".encode())
            sha.update(np.ascontiguousarray(split.images).data)
        sha.update(f"{self.class_names} {self.held_out}".encode())
        return sha.hexdigest()

    @cached_property
    def train(self) -> Split:
        """Images that train."""
        return self.all_training.take(np.sort(self._order[: len(self._order) - self.held_out]))

    @cached_property
    def validation(self) -> Split:
        """Held-out images."""
        return self.all_training.take(np.sort(self._order[len(self._order) - self.held_out :]))
