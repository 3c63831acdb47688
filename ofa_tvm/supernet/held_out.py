"""Accuracies on images that weights have not seen: one supernet's held-out ones, or all in a cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.data.dataset import Dataset
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, Library
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.trained_images import other_images, require_trained_images
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import UserError


class HeldOut:
    """Answers of subnets on held-out images.

    Args:
        parts: supernets that were trained alike, each with the images that were held out of its training.
    """

    def __init__(self, parts: Sequence[tuple[Supernet, Evaluator]]) -> None:
        self._parts = parts

    @property
    def images(self) -> int:
        """Number of held-out images."""
        return sum(evaluator.count for _, evaluator in self._parts)

    def answers(self, config: SubnetConfig) -> NDArray[np.bool_]:
        """For each image, whether the recalibrated subnet of its part's supernet classifies it correctly."""
        return np.concatenate([evaluator.answers(supernet, config) for supernet, evaluator in self._parts])

    def top1(self, config: SubnetConfig) -> float:
        """Share of correct answers."""
        return float(self.answers(config).mean())


def fold_folder(folder: Path, number: int) -> Path:
    """Where a part of a cross-validation is trained, counted from 0, beside the supernet of all images."""
    return folder / f"fold-{number + 1}"


def open_held_out(
    folder: Path,
    supernet: Supernet,
    facts: SupernetFacts,
    dataset: Dataset,
    library: Library | None = None,
    dtype: DType = "float32",
) -> HeldOut:
    """The held-out images of a trained supernet, and of its cross-validation where there was one.

    Args:
        folder: the supernet's folder.
        supernet: the supernet.
        facts: what its checkpoint says.
        dataset: its images.
        library: runs the recalibrated subnets; None for torch.
        dtype: of what is evaluated; int8 needs a library.

    Raises:
        UserError: the images are not those of the training, or a supernet of the cross-validation is missing or
            belongs to another training.
    """
    require_trained_images(dataset, facts, folder)
    if facts.folds == 1:
        return HeldOut([(supernet, Evaluator(dataset, dataset.validation, library=library, dtype=dtype))])
    parts = []
    for number, fold in enumerate(dataset.folds(facts.folds)):
        path = fold_folder(folder, number)
        if not path.is_dir():
            raise UserError(
                f"{folder} lacks {path.name}: its supernet was trained on all images, so only the {facts.folds} of its "
                "cross-validation have not seen some of them",
                "copy the whole folder of the training",
            )
        part, part_facts = load_supernet(path)
        has_other_plan = part_facts.training.get("plan") != facts.training.get("plan")
        if has_other_plan or other_images(fold, part_facts, path):
            raise UserError(
                f"{path} belongs to another training than {folder}", "copy the whole folder of the training"
            )
        parts.append((part, Evaluator(fold, fold.validation, library=library, dtype=dtype)))
    return HeldOut(parts)
