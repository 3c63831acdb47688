"""Evaluate subnets of a supernet: extract, recalibrate batch norm, count correct answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ofa_tvm.data import load_dataset
from ofa_tvm.data.dataset import Dataset, Split
from ofa_tvm.data.noise import noise
from ofa_tvm.graph.network import NetworkSpec
from ofa_tvm.graph.weights import Weights, marked
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.facts import SupernetFacts, require_same_classes
from ofa_tvm.supernet.host_memory import keep_freed_memory
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.quantise import quantised
from ofa_tvm.supernet.subnet import Subnet, extract
from ofa_tvm.support.dtype import DType

CPU = torch.device("cpu")
CALIBRATION_BATCH = 250
QUANTISATION_IMAGES = 500
BATCH = {"cpu": 50, "cuda": 1000}
"""Images that are classified at once: the maps of more do not stay in a CPU's caches."""
LIBRARY_BATCH = 1000
"""Images that are given to another engine at once."""
Logits = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Library = Callable[[NetworkSpec, Weights], Logits]
"""From a network and its folded weights to logits of images (n, resolution, resolution, channels) by another engine."""


def supernet_images(
    source: str | None, facts: SupernetFacts, checkpoint: Path, progress: Callable[[str], None]
) -> Dataset:
    """The images to judge a trained supernet on, preprocessed as those that its weights were trained with.

    Args:
        source: ``name`` or ``name:PATH``; None for what the supernet was trained on, or noise for an adopted model
            that came without images.
        facts: what the checkpoint says about the supernet.
        checkpoint: what the user named as the supernet, for the message.
        progress: called with what is fetched.

    Raises:
        UserError: the images cannot be loaded, or their classes are not the supernet's.
    """
    source = source or facts.data
    if not source:
        return noise(facts.class_names, facts.preprocess, facts.search_space.resolutions[-1])
    dataset = load_dataset(source, progress)
    return replace(_in_order(dataset, source, facts, checkpoint), preprocess=facts.preprocess)


def _in_order(dataset: Dataset, source: str, facts: SupernetFacts, checkpoint: Path) -> Dataset:
    """The images with their classes in the order of a supernet's outputs."""
    found, wanted = dataset.class_names, facts.class_names
    require_same_classes(found, source, facts, checkpoint)
    if found == wanted or set(found) != set(wanted):
        return dataset
    places = np.array([wanted.index(name) for name in found])

    def ordered(split: Split) -> Split:
        return Split(split.images, places[split.labels])

    training, test = ordered(dataset.all_training), ordered(dataset.test)
    return replace(dataset, class_names=wanted, all_training=training, test=test)


class Evaluator:
    """Top-1 accuracy of subnets on one split.

    Args:
        dataset: where calibration images (from the training split) and preprocessing come from.
        split: images to count on.
        calibration_images: how many images set the batch-norm statistics (OFA uses 2,000).
        device: where the supernets are.
        library: runs the recalibrated subnets; None for torch.
        dtype: of what is evaluated; int8 and bfloat16 need a library, torch computes in float32.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Split,
        calibration_images: int = 2000,
        device: torch.device = CPU,
        library: Library | None = None,
        dtype: DType = "float32",
    ) -> None:
        self._library, self._dtype = library, dtype
        keep_freed_memory()
        self._preprocess = dataset.preprocess
        self._labels = torch.from_numpy(split.labels)
        self._images = to_tensor(split.images).to(device)
        rows = np.random.default_rng(0).permutation(len(dataset.train))[:calibration_images]
        self._calibration = to_tensor(dataset.train.images[rows]).to(device)

    @property
    def count(self) -> int:
        """Images to count on."""
        return len(self._labels)

    def _batches(self, images: Tensor, resolution: int, batch: int) -> Iterator[Tensor]:
        for part in images.split(batch):  # type: ignore[no-untyped-call]
            yield preprocess(part, self._preprocess, resolution)

    def subnet(self, supernet: Supernet, config: SubnetConfig) -> Subnet:
        """The extracted and recalibrated subnet."""
        subnet = channels_last(extract(supernet, config))
        subnet.calibrate(self._batches(self._calibration, config.resolution, CALIBRATION_BATCH))
        return subnet

    def weights(self, subnet: Subnet) -> Weights:
        """Folded weights of a recalibrated subnet; of int8 with scales, from some of the calibration images."""
        if self._dtype != "int8":
            return marked(subnet.folded(), self._dtype)
        images = self._calibration[:QUANTISATION_IMAGES]
        batches = self._batches(images, subnet.network.resolution, CALIBRATION_BATCH)
        mean, std = np.array(self._preprocess.mean), np.array(self._preprocess.std)
        return quantised(subnet, batches, (-mean / std, (1 - mean) / std))

    @torch.inference_mode()
    def predictions(self, subnet: Subnet) -> Tensor:
        """Class numbers of all images of the split, shape (n,), on the CPU."""
        if self._library is not None:
            logits = self.logits(subnet, self._library(subnet.network, self.weights(subnet)))
            return torch.from_numpy(logits.argmax(1))
        batches = self._batches(self._images, subnet.network.resolution, BATCH[self._images.device.type])
        return torch.cat([subnet(images).argmax(1) for images in batches]).cpu()

    def logits(self, subnet: Subnet, library: Logits) -> NDArray[np.float32]:
        """What another engine makes of all images of the split, shape (n, classes)."""
        batches = self._batches(self._images, subnet.network.resolution, LIBRARY_BATCH)
        return np.concatenate([library(images.permute(0, 2, 3, 1).contiguous().numpy()) for images in batches])

    def answers(self, supernet: Supernet, config: SubnetConfig) -> NDArray[np.bool_]:
        """For each image, whether the recalibrated subnet classifies it correctly."""
        right: NDArray[np.bool_] = (self.predictions(self.subnet(supernet, config)) == self._labels).numpy()
        return right

    def top1(self, supernet: Supernet, config: SubnetConfig) -> float:
        """Fraction of images that the recalibrated subnet classifies correctly."""
        return float(self.answers(supernet, config).mean())
