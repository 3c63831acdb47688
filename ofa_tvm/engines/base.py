"""What an engine is: something that runs networks, behind two calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.files import Record

Array = NDArray[np.float32]
Precision = Literal["float32", "bfloat16", "int8"]
CALIBRATION_IMAGES = 32

Call = Callable[[], Any]


class Model(ABC):
    """A network that an engine has made ready."""

    @abstractmethod
    def bind(self, images: Array) -> Call:
        """A call that runs once on these images.

        Args:
            images: normalised (1, resolution, resolution, channels); brought into the engine's layout now, so that
                timing the call times the engine alone.
        """

    @abstractmethod
    def logits(self, output: Any) -> Array:
        """Logits (1, classes) of what a bound call returned."""

    def __call__(self, images: Array) -> Array:
        """Logits (1, classes) of images, see ``bind``."""
        return self.logits(self.bind(images)())


class Engine(ABC):
    """Something that runs networks.

    ``package`` is the distribution that it needs, ``settings`` say how it is run, and ``precision`` in what.
    """

    package: ClassVar[str]
    settings: ClassVar[str]
    precision: ClassVar[Precision] = "float32"

    @property
    def version(self) -> str | None:
        """Version of the package; None where it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def record(self) -> Record:
        """What it is, as a JSON object."""
        return {"version": self.version, "settings": self.settings, "precision": self.precision}

    @abstractmethod
    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Make a network ready for images of batch 1."""


def calibration_images(network: NetworkSpec) -> Array:
    """Images of which an engine learns ranges, where weights are random: (n, resolution, resolution, channels)."""
    shape = (CALIBRATION_IMAGES, network.resolution, network.resolution, network.in_channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def channels_first(images: Array) -> Array:
    """(n, height, width, channels) images as (n, channels, height, width)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
