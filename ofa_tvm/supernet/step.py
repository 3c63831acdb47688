"""One training step: the largest network learns from labels, the others from its answers or a teacher's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.spaces import SubnetConfig
from ofa_tvm.supernet.augment import preprocess
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.plan import Plan

Answer = Callable[[Tensor], Tensor]
"""From images (n, 3, size, size) uint8 to logits (n, classes)."""


@dataclass(frozen=True)
class Losses:
    """Losses of a step: the largest network's, and the others' mean (0 where there are none); still on the device."""

    largest: Tensor
    subnets: Tensor


class Step:
    """Sets the supernet's gradients to the sum over a step's networks.

    Args:
        supernet: in training mode.
        plan: what decides the losses.
        values: how images are preprocessed.
        teacher: answers beside the labels for the largest network, and in its place for the others; None for none.
    """

    def __init__(self, supernet: Supernet, plan: Plan, values: Preprocess, teacher: Answer | None = None) -> None:
        self._supernet, self._plan, self._preprocess, self._teacher = supernet, plan, values, teacher

    def __call__(self, images: Tensor, targets: Tensor, subnets: Sequence[SubnetConfig]) -> Losses:
        """Run forward and backward passes (in-place distillation: Yu et al., "BigNAS", ECCV 2020, section 3.2).

        Args:
            images: (n, 3, size, size) uint8.
            targets: (n, classes), what the labels say; several classes where images are mixed.
            subnets: the largest first.
        """
        self._supernet.zero_grad()
        largest, *others = subnets
        answers = None if self._teacher is None else self._teacher(images).softmax(1)
        logits = self._logits(images, largest)
        loss = F.cross_entropy(logits, targets, label_smoothing=self._plan.label_smoothing)
        if answers is not None:
            share = self._plan.teacher_share
            loss = (1 - share) * loss + share * F.cross_entropy(logits, answers)
        loss.backward()  # type: ignore[no-untyped-call]
        if answers is None:
            answers = logits.detach().softmax(1)
        sums = torch.zeros((), device=images.device)
        for config in others:
            loss_of_one = F.cross_entropy(self._logits(images, config), answers)
            loss_of_one.backward()  # type: ignore[no-untyped-call]
            sums += loss_of_one.detach()
        return Losses(loss.detach(), sums / max(1, len(others)))

    def _logits(self, images: Tensor, config: SubnetConfig) -> Tensor:
        prepared = preprocess(images, self._preprocess, config.resolution)
        is_low = self._plan.precision == "bfloat16"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=is_low):
            logits: Tensor = self._supernet(prepared, config)
        return logits.float()
