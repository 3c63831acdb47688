"""What says where the top of a picture is, and which numbers are pixels."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from ofa_tvm.data.photograph import exif_orientation, open_square, opened, read_rgb


def exif(value, order="<", tag=0x112, kind=3, count=1, first=8):
    start = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
    return b"Exif\0\0" + start + struct.pack(f"{order}I", first) + struct.pack(f"{order}H", 1) + entry


@pytest.mark.parametrize("order", "<>")
def test_orientations(order):
    assert [exif_orientation(exif(value, order)) for value in range(10)] == [1, 1, 2, 3, 4, 5, 6, 7, 8, 1]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"Exif\0\0",
        exif(6)[:12],
        exif(6)[:-1],
        exif(6, first=9999),
        exif(6, tag=7),
        exif(6, kind=4),
        exif(6, count=2),
    ],
)
def test_what_does_not_say_it_is_upright(damaged):
    assert exif_orientation(damaged) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_numbers_that_are_no_pixels_are_refused(dtype):
    with pytest.raises(ValueError, match="pixels are uint8"):
        open_square(np.full((8, 8, 3), np.nan if dtype != np.uint16 else 7).astype(dtype), 8)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="pixels are uint8"):
        open_square(np.zeros(shape, np.uint8), 8)


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize("side", [12_000, 20_000, 50_000])
def test_what_is_too_large_is_refused_without_a_warning(tmp_path, side):
    """Pillow would warn of the first in its own words, and raise its own error at the others."""
    (path := tmp_path / "large.png").write_bytes(png_header(side, side) + struct.pack(">I", 0) + b"IDAT")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="more than 67108864"):
        warnings.simplefilter("error")
        read_rgb(path)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_only_the_decoders_that_are_named_see_a_file(tmp_path, kind):
    Image.new("RGB", (4, 4)).save(path := tmp_path / "picture", kind)
    with pytest.raises(ValueError, match="it is none of BMP, TIFF, or damaged"), opened(path, ("BMP", "TIFF")):
        pass
    with opened(path, (kind,)) as image:
        assert image.size == (4, 4)
