"""One picture as the network sees it: upright, in RGB, its largest centred square.

The bundle's program does the same (``runtime/src``): it decodes PNG, JPEG, PPM and, by the system's libwebp,
WebP, and refuses other files by name.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Picture = Image.Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MOST_SIDE = 32768
MOST_PIXELS = 1 << 26
"""8192 x 8192: more than cameras of 60 megapixels make."""
DAMAGED = (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What a picture that cannot be read raises."""
ADOBES = (0, 2)
"""Adobe's marks of CMYK and of the same after its colour transform."""
_ORIENTATION, _SHORT = 0x112, 3
_WARNINGS = Lock()
# What turns a picture upright, by EXIF's orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(source: Path | str | Picture) -> Picture:
    """A file or picture, upright and in RGB of 8 bits: transparency is dropped, of 16 bits the upper 8 count.

    Raises:
        OSError, ValueError, SyntaxError: it is no regular file, of another kind, damaged, larger than ``MOST_PIXELS``,
            moves, or has numbers that are no colours.
    """
    if isinstance(source, Picture):
        return _upright(source)
    with opened(source) as image:
        return _upright(image)


def shorter_side(path: Path) -> int:
    """Of a picture's file, in pixels. Raises as ``read_rgb`` does."""
    with opened(path) as image:
        return min(image.size)


@contextmanager
def opened(path: Path | str, formats: tuple[str, ...] = FORMATS) -> Iterator[Picture]:
    """A picture's file, not yet decoded; no other decoders than those of ``formats`` see it.

    Raises:
        OSError, ValueError, SyntaxError: it is no regular file, of another kind, damaged, or too large for Pillow.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for a pipe's other end
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is a pipe, a device or a folder")
        try:
            with _WARNINGS, warnings.catch_warnings():  # what is too large is refused, in our words
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(file, formats=formats)
        except UnidentifiedImageError as error:
            raise ValueError(f"it is none of {', '.join(formats)}, or damaged") from error
        except Image.DecompressionBombError as error:
            raise ValueError(f"it has more than {MOST_PIXELS} pixels") from error
        with image:
            yield image


def _upright(image: Picture) -> Picture:
    width, height = image.size
    if max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than {MOST_PIXELS}, or than {MOST_SIDE} along a side")
    if image.format in ("GIF", "PNG", "WEBP", "TIFF") and getattr(image, "is_animated", False):
        raise ValueError("it moves, or has several pages: only still pictures are read")
    image.load()  # some files say at their end how they are turned
    turn = _TURNS.get(exif_orientation(image.info.get("exif", b"")))
    rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _rgb(image: Picture) -> Picture:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise ValueError(f"its numbers are no colours of 8 or 16 bits (mode {image.mode})")
    if image.format == "JPEG" and image.mode == "CMYK" and image.info.get("adobe_transform") not in ADOBES:
        raise ValueError("it is CMYK without Adobe's mark, which says what its numbers mean")
    return image.convert("RGB")


def exif_orientation(exif: bytes) -> int:
    """Where the top of a picture is, from 1 (upright) to 8; 1 where EXIF data do not say it."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    if first > len(tiff) - 2:
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    for at in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number, value = struct.unpack_from(f"{order}HHIH", tiff, at)
        if (tag, kind, number) == (_ORIENTATION, _SHORT, 1):
            return int(value) if 1 <= value <= 8 else 1
    return 1


def centre_square(rgb: Picture, size: int) -> NDArray[np.uint8]:
    """(size, size, 3): the largest square in the middle, resized bilinearly with antialiasing, in 8 bits."""
    return np.asarray(rgb.resize((size, size), Image.Resampling.BILINEAR, _centre(rgb)))


def open_square(
    source: Path | str | Picture | NDArray[np.uint8], size: int, stored_size: int | None = None
) -> NDArray[np.float32]:
    """(size, size, 3) float32 from 0 to 255, as the bundle's program makes it.

    Args:
        source: a file, a picture, or its pixels (height, width, 3).
        size: in pixels.
        stored_size: the square is first resized to this size, in 8 bits, as training stored it; None: it is not.

    Raises:
        OSError, ValueError, SyntaxError: see ``read_rgb``; or the pixels are not uint8.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise ValueError(f"pixels are uint8 (height, width, 3), not {source.dtype} {source.shape}")
        rgb = Image.fromarray(source)
    else:
        rgb = read_rgb(source)
    if stored_size is not None:
        rgb = Image.fromarray(centre_square(rgb, stored_size))
    planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in rgb.split()]
    box = _centre(rgb)
    return np.stack([np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box)) for plane in planes], -1)


def _centre(rgb: Picture) -> tuple[float, float, float, float]:
    side = min(rgb.size)
    left, top = ((length - side) / 2 for length in rgb.size)
    return left, top, left + side, top + side
