"""What says where the top of a picture is, and which numbers are pixels."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ofa_tvm.data.photograph import exif_orientation, open_square


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
