"""Batched augmentation and preprocessing in torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ofa_tvm.data.dataset import Images, Preprocess


def preprocess(images: Tensor, preprocess: Preprocess, resolution: int) -> Tensor:
    """Resize and normalise.

    Args:
        images: (n, 3, size, size) of 0..255, any type.
        preprocess: mean and standard deviation of the data.
        resolution: wanted height and width.

    Returns:
        (n, 3, resolution, resolution) float32 in channels_last order.
    """
    output = images.to(torch.float32).contiguous(memory_format=torch.channels_last)
    if output.shape[-1] != resolution:
        output = F.interpolate(output, size=(resolution, resolution), mode="bilinear", antialias=True)
    mean, std = _mean_and_std(tuple(preprocess.mean), tuple(preprocess.std), images.device)
    return ((output - mean) / std).contiguous(memory_format=torch.channels_last)


@lru_cache
def _mean_and_std(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation for images of 0..255, kept on the device: copying them there makes a GPU wait."""
    first, second = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (mean, std))
    return first, second


def to_tensor(images: Images) -> Tensor:
    """(n, size, size, 3) uint8 array to (n, 3, size, size) uint8 tensor."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


class CropAndFlip:
    """Random crops of reflected padding, and random horizontal flips, of images kept on a device."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self.size = images.shape[1]
        self.margin = self.size // 8
        sides = (self.margin, self.margin)
        # In numpy: torch reflects floats only, and the whole set as float32 is four times as large.
        self.padded = torch.from_numpy(np.pad(images, ((0, 0), sides, sides, (0, 0)), mode="reflect")).to(device)

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """A batch (n, 3, size, size) uint8 of the given rows; the rows and the generator are on the CPU."""
        count = len(rows)
        top, left = torch.randint(0, 2 * self.margin + 1, (2, count), generator=generator)
        flip = torch.rand(count, generator=generator) < 0.5
        drawn = torch.stack([rows, top, left, flip.long()]).to(self.padded.device, non_blocking=True)
        row, top, left, flip = drawn[:, :, None]
        span = torch.arange(self.size, device=self.padded.device)
        columns = torch.where(flip == 1, self.size - 1 - span, span) + left
        picked = self.padded[row[:, :, None], (top + span)[:, :, None], columns[:, None, :]]
        return picked.permute(0, 3, 1, 2)


def cut_mix(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a box of each image's neighbour in the batch into it (Yun et al., "CutMix", ICCV 2019, section 3).

    Args:
        images: (n, 3, size, size).
        targets: (n, classes), shares of classes.
        generator: on the CPU; draws one box for all images, whose area is a uniform share of the image's.

    Returns:
        Images, and targets in which each class has its share of the area.
    """
    size = images.shape[-1]
    side = size * (1 - torch.rand((), generator=generator)).sqrt()
    middle = torch.rand(2, generator=generator) * size
    top, left = (middle - side / 2).clamp(0, size).round().int().tolist()
    bottom, right = (middle + side / 2).clamp(0, size).round().int().tolist()
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.roll(1, 0)[:, :, top:bottom, left:right]
    share = (bottom - top) * (right - left) / size**2
    return mixed, (1 - share) * targets + share * targets.roll(1, 0)
