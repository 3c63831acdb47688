"""Whether a bundle's library answers as it should: its logits against its reference, its classes against torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.bundle.manifest import Accuracy
from ofa_tvm.compiler.codegen import Library
from ofa_tvm.data.dataset import Dataset, Preprocess
from ofa_tvm.graph.mixed import kept_layers
from ofa_tvm.graph.numpy_reference import network_logits
from ofa_tvm.graph.parity import MAX_BFLOAT16_ERROR, MAX_FLOAT16_ERROR, check_parity, relative_error
from ofa_tvm.graph.weights import Weights
from ofa_tvm.nas.result import Pick
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.subnet import Subnet
from ofa_tvm.support.console import Task
from ofa_tvm.support.dtype import DType
from ofa_tvm.support.errors import OfaTvmError

MAX_TOP1_DIFFERENCE: dict[DType, float] = {"float32": 0.001, "float16": 0.001, "bfloat16": 0.001, "int8": 0.003}
"""From the torch subnet in float32; of ``LOSING``, what may be lost beyond chance, see ``check_accuracy``."""
# Looser than a plain comparison of engines: the torch subnet runs its batch norms unfolded.
MAX_LOGIT_DIFFERENCE: dict[DType, float] = {
    "float32": 1e-3,
    "float16": MAX_FLOAT16_ERROR,
    "bfloat16": MAX_BFLOAT16_ERROR,
    "int8": 1e-5,
}
"""Largest difference of a subnet compiled in this precision from its reference."""
MAX_STORED_FLOAT16_DIFFERENCE = 1e-2
"""Likewise on a GPU in float16, which is for storage only there: sums are float32."""
REFERENCES: dict[DType, str] = {
    "float32": "the torch subnet",
    "float16": "the torch subnet",
    "bfloat16": "the bfloat16 network in numpy",
    "int8": "the int8 network in numpy",
}
ROUNDED: tuple[DType, ...] = ("bfloat16", "int8")
"""They have a reference of their own."""
LOSING: tuple[DType, ...] = (*ROUNDED, "float16")
"""They may lose accuracy."""
MIXED_REFERENCE = "the int8 network with float32 layers in numpy"
"""Float32 sums in another order turn a few roundings by a level, and what that changes turns others further on: at
worst as much as rounding itself changes float32's logits."""
SIGMAS = 1.96
"""Of a 95 % interval."""
COMPARED_IMAGES: dict[DType, int] = {"float32": 500, "float16": 500, "bfloat16": 8, "int8": 8}
TORCH_BATCH = 250

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Loss:
    """What a network loses against the one in float32, on the same images.

    Args:
        lost: images that only the other one is right on.
        won: images that only this one is right on.
        images: in all.
    """

    lost: int
    won: int
    images: int

    @classmethod
    def of(cls, right: NDArray[np.bool_], float32_right: NDArray[np.bool_]) -> Self:
        """From which answers are right, of both (n,)."""
        return cls(int((float32_right & ~right).sum()), int((right & ~float32_right).sum()), len(right))

    @property
    def share(self) -> float:
        """Of the images."""
        return (self.lost - self.won) / max(1, self.images)

    @property
    def error(self) -> float:
        """From ``share`` to either end of its 95 % interval."""
        return float(SIGMAS * (self.lost + self.won) ** 0.5 / max(1, self.images))

    @property
    def most(self) -> float:
        """The upper end."""
        return self.share + self.error


class LostTooMuch(OfaTvmError):
    """A network of ``LOSING`` loses more than it may."""


WHAT_ELSE = "no bundle was written; deploy with --dtype float32, another subnet, or give a higher --max-accuracy-drop"
"""Instead of a network that loses too much."""


@dataclass(frozen=True)
class AnswerCheck:
    """What is asked of a library.

    Args:
        dataset: its test images are classified.
        preparation: of the images.
        dtype: the library's precision.
        batch: images of a call.
        counted: test images that it must classify as the torch subnet does; 0 for none.
        most_lost: of its accuracy, as a fraction; None for what the precision may lose.
        pick: the search's pick of the subnet, if a search made it.
        is_of_gpu: whether the library runs on a GPU.
    """

    dataset: Dataset
    preparation: Preprocess
    dtype: DType
    batch: int
    counted: int
    most_lost: float | None
    pick: Pick | None
    is_of_gpu: bool

    def nothing(self, why: str) -> Accuracy:
        """What is known of the accuracy where the library cannot run."""
        return self._accuracy(f"nothing was run: {why}", 0, 0)

    def run(self, library: Library, subnet: Subnet, weights: Weights) -> Accuracy:
        """Run the same images through the library, the torch subnet, and those of ``ROUNDED`` through numpy.

        Raises:
            OfaTvmError: the library computes something else, or loses too much.
        """
        test, dtype = self.dataset.test, self.dtype
        counted, compared = min(self.counted, len(test)), min(COMPARED_IMAGES[dtype], len(test))
        right = torch_right = np.empty(0, bool)
        answers, expected, in_float32 = [], [], []
        images_in_all = max(counted, compared)
        for start in _shown(range(0, images_in_all, TORCH_BATCH), images_in_all):
            rows = slice(start, min(start + TORCH_BATCH, images_in_all))
            images = preprocess(to_tensor(test.images[rows]), self.preparation, subnet.network.resolution)
            torch_logits: Images = subnet(images).numpy()
            channels_last = images.permute(0, 2, 3, 1).numpy()
            logits = run_in_batches(library, channels_last, self.batch)
            labels = test.labels[rows][: max(0, counted - start)]
            right = np.append(right, logits[: len(labels)].argmax(1) == labels)
            torch_right = np.append(torch_right, torch_logits[: len(labels)].argmax(1) == labels)
            if start < compared:
                answers.append(logits[: compared - start])
                in_float32.append(torch_logits[: compared - start])
                if dtype in ROUNDED:
                    torch_logits = network_logits(subnet.network, weights, channels_last[: compared - start])
                expected.append(torch_logits[: compared - start])
        wanted = np.concatenate(expected)
        difference = relative_error(np.concatenate(answers), wanted)
        reference, limit = REFERENCES[dtype], MAX_LOGIT_DIFFERENCE[dtype]
        if dtype == "float16" and self.is_of_gpu:
            limit = MAX_STORED_FLOAT16_DIFFERENCE
        if kept_layers(weights):
            reference = MIXED_REFERENCE
            limit = max(MAX_LOGIT_DIFFERENCE["float32"], relative_error(wanted, np.concatenate(in_float32)))
        check_parity("the compiled library", difference, reference, limit)
        check_accuracy(right, torch_right, dtype, self.most_lost)
        how = (
            f"{counted} test images through the bundle's library {library.where}".rstrip()
            if counted
            else "accuracy was not checked"
        )
        found = self._accuracy(f"{how}; logits of {compared} images compared with {reference}", counted, compared)
        return found.model_copy(
            update={
                "test_top1": float(right.mean()) if counted else None,
                "torch_test_top1": float(torch_right.mean()) if counted else None,
                "max_relative_logit_difference": difference,
                "reference": reference,
            }
        )

    def _accuracy(self, how: str, counted: int, compared: int) -> Accuracy:
        return Accuracy(
            data=self.dataset.name,
            how=how,
            test_images=counted,
            compared_images=compared,
            validation_top1=self.pick.validation_top1 if self.pick else None,
            validation_error=self.pick.validation_error if self.pick else None,
            predicted_top1=self.pick.predicted_top1 if self.pick else None,
        )


def _shown(starts: range, total: int) -> Iterator[int]:
    """Starts of batches, with progress."""
    with Task("checking images", total) as task:
        for start in starts:
            yield start
            task.advance(min(starts.step, total - start))


def check_accuracy(
    right: NDArray[np.bool_], torch_right: NDArray[np.bool_], dtype: DType, most_lost: float | None = None
) -> None:
    """Compare a library's answers to the same images with the torch subnet's.

    Args:
        right: which answers of the library are right, shape (n,).
        torch_right: likewise of the torch subnet.
        dtype: the library's precision.
        most_lost: of its accuracy, as a fraction; None for what the precision may lose.

    Raises:
        OfaTvmError: they differ by more than the precision may.
        LostTooMuch: of ``LOSING``, by a loss that chance does not explain.
    """
    count, most = len(right), MAX_TOP1_DIFFERENCE[dtype] if most_lost is None else most_lost
    loss = Loss.of(right, torch_right)
    if dtype not in LOSING:
        if abs(loss.share) > most:
            raise OfaTvmError(
                f"the compiled library is right on {right.sum()} of {count} images, the torch subnet on "
                f"{torch_right.sum()}",
                "no bundle was written; please report the subnet's key, the target and the versions",
            )
        return
    if loss.share - loss.error > most:
        raise LostTooMuch(
            f"{dtype} costs this subnet {100 * loss.share:.2f} points on {count} images, more than "
            f"{100 * most:g}: right on {right.sum()}, in float32 on {torch_right.sum()}",
            WHAT_ELSE,
        )


def run_in_batches(library: Callable[[Images], Images], images: Images, batch: int) -> Images:
    """Logits (n, classes) of any number of images (n, resolution, resolution, channels), ``batch`` a call."""
    count = len(images)
    padded = np.concatenate([images, np.zeros((-count % batch, *images.shape[1:]), np.float32)])
    calls = [library(np.ascontiguousarray(padded[start : start + batch])) for start in range(0, count, batch)]
    return np.concatenate(calls)[:count]
