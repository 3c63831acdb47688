"""What an engine is: something that runs networks, behind two calls."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights
from ofa_tvm.support.files import Record

Array = NDArray[np.float32]
Precision = Literal["float32", "float16", "bfloat16", "int8"]
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


@dataclass(frozen=True)
class NodeTime:
    """Microseconds of one node of an engine's graph: the median of its runs.

    Args:
        name: as the engine names it.
        operator: what it is, in the engine's words.
        microseconds: of one run.
    """

    name: str
    operator: str
    microseconds: float


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
    def build(self, network: NetworkSpec, weights: Weights, threads: int, folder: Path) -> Path:
        """Write what a program of this engine would ship, for images of batch 1; returns the file to load."""

    @abstractmethod
    def load(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load what ``build`` wrote; the file may be removed afterwards."""

    def load_alone(self, file: Path, network: NetworkSpec, threads: int) -> Model:
        """Load it as a program does that needs nothing else of this package."""
        return self.load(file, network, threads)

    def prepare(self, network: NetworkSpec, weights: Weights, threads: int) -> Model:
        """Build and load."""
        with tempfile.TemporaryDirectory() as folder:
            return self.load(self.build(network, weights, threads, Path(folder)), network, threads)

    def node_times(self, network: NetworkSpec, weights: Weights, threads: int, runs: int) -> list[NodeTime] | None:
        """Times of its nodes in the order in which they run; None where it tells none."""
        return None


def median_times(times: Mapping[tuple[str, str], Sequence[float]]) -> list[NodeTime]:
    """Nodes from the microseconds of their runs, by name and operator; the first tenth of the runs is left out."""
    return [NodeTime(name, operator, median(runs[len(runs) // 10 :])) for (name, operator), runs in times.items()]


def calibration_images(network: NetworkSpec) -> Array:
    """Images of which an engine learns ranges, where weights are random: (n, resolution, resolution, channels)."""
    shape = (CALIBRATION_IMAGES, network.resolution, network.resolution, network.in_channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def channels_first(images: Array) -> Array:
    """(n, height, width, channels) images as (n, channels, height, width)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
