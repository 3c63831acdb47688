"""One picture as the network sees it: upright, its largest centred square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Picture = Image.Image


def upright(image: Picture) -> Picture:
    """The image in RGB, turned as its EXIF data say."""
    return ImageOps.exif_transpose(image).convert("RGB")


def centre_square(rgb: Picture) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the largest square in the middle."""
    side = min(rgb.size)
    left, top = ((length - side) / 2 for length in rgb.size)
    return left, top, left + side, top + side


def open_square(source: Path | str | Picture | NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """(size, size, 3) float32 from 0 to 255, resized bilinearly with antialiasing, as the bundle's program does.

    Args:
        source: a file, a picture, or its pixels (height, width, 3).
        size: in pixels.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(source, np.ndarray):
        rgb = Image.fromarray(source).convert("RGB")
    elif isinstance(source, Picture):
        rgb = upright(source)
    else:
        with Image.open(source) as image:
            rgb = upright(image)
    box = centre_square(rgb)
    planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in rgb.split()]
    return np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box)) for plane in planes], -1)
