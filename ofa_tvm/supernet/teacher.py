"""A trained network that answers beside the labels of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ofa_tvm.data.dataset import Dataset, Preprocess
from ofa_tvm.supernet.augment import preprocess
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file


class Teacher:
    """The largest subnet of a trained supernet.

    Args:
        subnet: the network.
        values: how its images are preprocessed.
        name: identifies its weights.
    """

    def __init__(self, subnet: Subnet, values: Preprocess, name: str) -> None:
        self._subnet, self._preprocess, self.name = subnet, values, name

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, size, size) uint8."""
        logits: Tensor = self._subnet(preprocess(images, self._preprocess, self._subnet.network.resolution))
        return logits


def open_teacher(path: Path, dataset: Dataset, device: torch.device) -> Teacher:
    """The teacher of a supernet's file or folder, its batch norms recalibrated on a training's images.

    Raises:
        UserError: it cannot be read, or its classes are not those of the images.
    """
    supernet, facts = load_supernet(path)
    if facts.class_names != dataset.class_names:
        raise UserError(f"teacher {path} knows other classes than {dataset.name}", "train it on these images first")
    evaluator = Evaluator(dataset, dataset.validation, device=device)
    subnet = evaluator.subnet(supernet.to(device), supernet.space.largest)
    return Teacher(subnet, facts.preprocess, sha256_file(checkpoint_path(path))[:16])
