"""OfaPredictor: the accuracy predictor that Once-for-All published for its MobileNetV3 supernet of width 1.2.

A perceptron of three hidden layers on one-hot choices (Cai et al., ICLR 2020, section 3.4). The weights are third-party
and not shipped: an ``.npz`` file of the layers ``0``, ``2``, ``4`` and ``6``, each a ``weight`` and a ``bias``.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.spaces import Genomes, SearchSpace
from ofa_tvm.spaces.mobilenet_v3 import MBV3_W12
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import require_regular

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

BIAS = (
    "OFA's accuracy predictor reads about 6 points too high. It ranks subnets of one resolution (160 or 192) with "
    "Spearman about .88; its figures of different resolutions cannot be compared, and at 128 it cannot be used."
)
"""What is known about its errors, for people."""

RESOLUTIONS = tuple(range(112, 225, 16))
"""Resolutions that have an input."""

_OTHER = "take the accuracy predictor of the MobileNetV3 supernet of width 1.2"
_SIZES = (128, 400, 400, 400, 1)
_LAYERS = ("0", "2", "4", "6")
_CHUNK = 8192


@dataclass(frozen=True)
class OfaPredictor:
    """The published predictor.

    Args:
        space: the space of the genomes.
        layers: weight (outputs, inputs) and bias (outputs,) of each layer.
    """

    space: SearchSpace
    layers: tuple[tuple[Weights, Weights], ...]

    @classmethod
    def load(cls, path: Path, space: SearchSpace = MBV3_W12) -> OfaPredictor:
        """Read the weights.

        Args:
            path: the ``.npz`` file.
            space: the space of the genomes to predict.

        Raises:
            UserError: the space is not ``mbv3-w1.2``, or the file is missing, damaged or of another network.
        """
        if space.description() != MBV3_W12.description():
            raise UserError(
                f"OFA's accuracy predictor does not know space {space.name}", f"take space {MBV3_W12.name} for it"
            )
        arrays = _read(path)
        layers = []
        for name, (inputs, outputs) in zip(_LAYERS, pairwise(_SIZES), strict=True):
            weight, bias = (_array(path, arrays, f"{name}.{part}") for part in ("weight", "bias"))
            for part, array, shape in (("weight", weight, (outputs, inputs)), ("bias", bias, (outputs,))):
                if array.shape != shape:
                    raise UserError(f"{path}: {name}.{part} has shape {array.shape}, not {shape}", _OTHER)
            layers.append((weight, bias))
        if len(arrays) > 2 * len(_LAYERS):
            raise UserError(f"{path} holds {len(arrays)} arrays, not {2 * len(_LAYERS)}", _OTHER)
        return cls(space, tuple(layers))

    def predict(self, genomes: Genomes) -> Floats:
        """Predicted top-1 fraction as published, see ``BIAS``, shape (n,)."""
        starts = range(0, max(len(genomes), 1), _CHUNK)
        return np.concatenate([self._predict(genomes[start : start + _CHUNK]) for start in starts])

    def _predict(self, genomes: Genomes) -> Floats:
        values = self._inputs(genomes)
        for index, (weight, bias) in enumerate(self.layers):
            values = values @ weight.T + bias
            if index < len(self.layers) - 1:
                np.maximum(values, 0, out=values)
        return values[:, 0].astype(np.float64)

    def _inputs(self, genomes: Genomes) -> Weights:
        """One-hot kernel sizes, expand ratios and resolution, shape (n, 128); ``encode`` has the resolution first."""
        choices = self.space.encode(genomes)[:, len(self.space.resolutions) :]
        resolution = np.asarray(self.space.resolutions)[genomes[:, 0]]
        return np.concatenate([choices, resolution[:, None] == np.asarray(RESOLUTIONS)], axis=1, dtype=np.float32)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    require_regular(path, "accuracy predictor", "give OFA's .npz file")
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, not an .npz file")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise UserError(f"accuracy predictor {path} does not exist", "give the .npz file of its weights") from error
    except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"accuracy predictor {path} cannot be read: {error}", "restore it from a copy") from error


def _array(path: Path, arrays: dict[str, NDArray[np.generic]], name: str) -> Weights:
    if name not in arrays:
        raise UserError(f"{path} has no array {name}", _OTHER)
    array = arrays[name]
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise UserError(f"{path}: {name} must hold finite numbers", "restore it from a copy")
    return array.astype(np.float32)
