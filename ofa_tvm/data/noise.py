"""Images of noise, for models that came without any: enough to compare what two programs compute."""

from __future__ import annotations

import numpy as np

from ofa_tvm.data.dataset import Dataset, Preprocess, Split

NAME = "noise"
IMAGES = 64


def noise(class_names: tuple[str, ...], preprocess: Preprocess, size: int) -> Dataset:
    """A data set of random pixels, all of class 0: what is right of it means nothing."""
    rng = np.random.default_rng(0)

    def split() -> Split:
        images = rng.integers(0, 256, (IMAGES, size, size, 3), np.uint8)
        return Split(images, np.zeros(IMAGES, np.int64))

    return Dataset(NAME, class_names, preprocess, split(), split(), held_out=0)
