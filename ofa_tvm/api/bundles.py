"""A bundle, run from Python."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.bundle.folder import LIBRARY, verify_bundle
from ofa_tvm.bundle.manifest import Manifest
from ofa_tvm.compiler.loaded_model import load_anew
from ofa_tvm.data.photograph import DAMAGED, Picture, open_square
from ofa_tvm.support.errors import UserError


class Guess(NamedTuple):
    """A class and how sure the network is of it, 0 to 1."""

    name: str
    share: float


class Bundle:
    """A deployed subnet on this machine's CPU.

    Args:
        folder: of the bundle; every file is checked against its hash first.

    Raises:
        UserError: it is no bundle, damaged, or for another kind of processor.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = verify_bundle(folder)
        try:
            self._model = load_anew(folder / LIBRARY, self.manifest.files[LIBRARY].sha256)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"{folder / LIBRARY} cannot be loaded here: {error}", "deploy it for this machine"
            ) from error
        self._size = self.manifest.input.resolution
        self._preparation = self.manifest.preprocess

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) of normalised images (n, size, size, 3).

        Raises:
            UserError: an image has a number that is not finite.
        """
        if not np.isfinite(images).all():
            raise UserError("an image has a number that is not finite", "give finite numbers")
        batch = self._model.batch
        padded = np.concatenate([images, np.zeros((-len(images) % batch, *images.shape[1:]), np.float32)])
        parts = [self._model(np.ascontiguousarray(part)) for part in padded.reshape(-1, batch, *images.shape[1:])]
        return np.concatenate(parts)[: len(images)]

    def classify(self, image: Path | str | Picture | NDArray[np.uint8], top: int = 5) -> list[Guess]:
        """The likeliest classes of a picture, the likeliest first.

        Args:
            image: a file, a picture, or its pixels (height, width, 3).
            top: how many.

        Raises:
            UserError: it cannot be read.
        """
        try:
            square = open_square(image, self._size, self._preparation.stored_size)
        except DAMAGED as error:
            what = image if isinstance(image, Path | str) else "this"
            raise UserError(f"{what} is no picture that can be read: {error}") from error
        mean, std = (np.asarray(values, np.float32) for values in (self._preparation.mean, self._preparation.std))
        normalised = (square / np.float32(255) - mean) / std
        (logits,) = self.logits(normalised[None].astype(np.float32))
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return [Guess(self.manifest.class_names[row], float(shares[row])) for row in np.argsort(-shares)[:top]]


def load_bundle(folder: Path | str) -> Bundle:
    """A bundle, ready to classify.

    Raises:
        UserError: it is no bundle, damaged, or for another kind of processor.
    """
    return Bundle(Path(folder))
