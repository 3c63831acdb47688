"""What the runner's library, Python and training make of odd pictures and of files that were made to fool them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import fuzzed_runner
import numpy as np
import pytest
from PIL import Image
from runner_headers import decodes_pictures

from ofa_tvm.data.photograph import DAMAGED, centre_square, open_square, read_rgb
from ofa_tvm.support.shipped import shipped_folder

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from run_bundle import main as run_example
from run_bundle import prepared

SIZE, STORED = 24, 32
LEVELS = {"mean": [0, 0, 0], "std": [1 / 255] * 3}
MOST_LEVELS = 2
"""That a pixel may differ by: decoders of JPEG round differently."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The runner's library under sanitizers: what the tests of this file do is done under their eyes."""
    return fuzzed_runner.build(tmp_path_factory.mktemp("sanitized"))


@pytest.fixture(scope="module")
def program(library):
    """The runner itself."""
    return library.program(shipped_folder("runtime") / "src" / "main.cc")


@pytest.fixture(scope="module")
def parts(library):
    """The program of tests/native/runtime_parts.cc."""
    return library.program(fuzzed_runner.NATIVE / "runtime_parts.cc")


@pytest.fixture
def bundle(tmp_path):
    """A bundle whose network answers with its first numbers."""
    return fuzzed_runner.make_bundle(tmp_path / "bundle")


def photograph(width=61, height=47):
    coarse = np.random.default_rng(width).integers(0, 256, (-(-height // 6), -(-width // 6), 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def seen(parts, path, stored):
    """A picture's levels as the runner prepares it, or its words."""
    out = path.with_suffix(".out.npy")
    command = [parts, "image", path, str(SIZE), out, *([str(stored)] if stored else [])]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return np.load(out).reshape(SIZE, SIZE, 3) if done.returncode == 0 else done.stderr


def turned(orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x112] = orientation
    return {"exif": exif}


def deep(picture):
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)


def seen_through(picture):
    picture = picture.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


SHAPES = [(1, 1), (1, 50), (50, 1), (40, 20), (20, 40), (3, 2), (1201, 3), (301, 200)]
PICTURES = {
    **{f"{width}x{height}.png": (photograph(width, height), {}) for width, height in SHAPES},
    **{f"turned-{number}.{kind}": (photograph(), turned(number)) for number in range(1, 9) for kind in ("png", "jpg")},
    **{f"mode-{mode}.png": (photograph().convert(mode), {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    **{f"mode-{mode}.jpg": (photograph().convert(mode), {"quality": 90}) for mode in ("L", "CMYK", "RGB")},
    "two-bits.png": (photograph().quantize(4), {"bits": 2}),
    "deep.png": (deep(photograph()), {}),
    "see-through.png": (photograph().quantize(8), {"transparency": 3}),
    "progressive.jpg": (photograph(), {"progressive": True, "subsampling": 0}),
    "halved.jpg": (photograph(), {"subsampling": 1, "quality": 80}),
    "restarts.jpg": (photograph(), {"restart_marker_blocks": 2}),
}
WEBP: dict[str, tuple[Image.Image, dict[str, Any]]] = {
    "lossy.webp": (photograph(), {"quality": 80}),
    "lossless.webp": (photograph(20, 40), {"lossless": True}),
    "grey.webp": (photograph().convert("L"), {"quality": 90}),
    "alpha.webp": (seen_through(photograph()), {"lossless": True, "exact": True}),
    "alpha-lossy.webp": (seen_through(photograph()), {"quality": 90}),
    **{f"turned-{number}.webp": (photograph(), {**turned(number), "quality": 90}) for number in range(1, 9)},
}


@pytest.fixture(scope="module")
def has_webp(parts, tmp_path_factory):
    """Whether this system has libwebp; the runner says so otherwise."""
    photograph().save(path := tmp_path_factory.mktemp("webp") / "picture.webp")
    said = seen(parts, path, None)
    if isinstance(said, str):
        assert "this system lacks libwebp.so.7" in said
        assert "install it (libwebp7), or convert the file" in said
    return not isinstance(said, str)


@decodes_pictures
@pytest.mark.parametrize("name", WEBP)
def test_webp_is_prepared_alike_where_the_system_decodes_it(parts, tmp_path, has_webp, name):
    if not has_webp:
        pytest.skip("there is no libwebp")
    picture, options = WEBP[name]
    picture.save(path := tmp_path / name, **options)
    for stored in (None, STORED):
        assert np.abs(seen(parts, path, stored) - open_square(path, SIZE, stored)).max() <= MOST_LEVELS


@decodes_pictures
def test_webp_that_moves_or_is_damaged_is_refused(parts, tmp_path, has_webp):
    if not has_webp:
        pytest.skip("there is no libwebp")
    path = tmp_path / "picture.webp"
    photograph().save(path, save_all=True, append_images=[photograph(61, 47).rotate(90)], duration=100)
    assert "it moves" in seen(parts, path, None)
    photograph().save(path)
    whole = path.read_bytes()
    for damaged in (whole[:20], whole[:30], whole[: len(whole) // 2], whole[:-20]):
        path.write_bytes(damaged)
        assert "it is damaged" in seen(parts, path, None)


@decodes_pictures
@pytest.mark.parametrize("name", PICTURES)
def test_every_reader_prepares_a_picture_alike(parts, tmp_path, name):
    picture, options = PICTURES[name]
    picture.save(path := tmp_path / name, **options)
    for stored in (None, STORED):
        expected = open_square(path, SIZE, stored)
        assert np.abs(seen(parts, path, stored) - expected).max() <= MOST_LEVELS
        facts = {**LEVELS, "stored_size": stored}
        assert np.abs(prepared(path, SIZE, facts) - expected).max() <= 0.01
    trained = centre_square(read_rgb(path), SIZE)
    assert np.abs(open_square(path, SIZE) - trained).max() <= 1
    assert np.array_equal(open_square(path, SIZE, SIZE), trained)


def test_the_example_says_in_one_line_that_a_library_cannot_run_here(bundle, tmp_path, monkeypatch):
    photograph().save(path := tmp_path / "picture.png")
    (bundle / "model.so").write_bytes(b"of another machine")
    monkeypatch.setattr("sys.argv", ["run_bundle.py", str(bundle), str(path)])
    with pytest.raises(SystemExit) as ended:
        run_example()
    assert re.fullmatch(f"error: {bundle}/model.so cannot run here: .+", str(ended.value.code))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "usage: "),
        (("nowhere", "picture.png"), "error: nowhere is no bundle: it has no manifest.json"),
        (("bundle", "nothing.png"), "error: nothing.png is no picture: .*No such file"),
        (("bundle", "bundle"), "error: bundle is no picture: .*Is a directory"),
    ],
)
def test_the_example_says_in_one_line_what_was_named_wrongly(bundle, monkeypatch, words, said):
    monkeypatch.chdir(bundle.parent)
    monkeypatch.setattr("sys.argv", ["run_bundle.py", *words])
    with pytest.raises(SystemExit) as ended:
        run_example()
    assert re.match(said, str(ended.value.code))


def test_sixteen_bits_are_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(grey).save(path := tmp_path / "grey.png")
    assert 120 < centre_square(read_rgb(path), SIZE).mean() < 130


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, depth=8, colour=2, pixels=b"", before=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + before + end


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(**options):
    path = Path(options.pop("folder")) / "whole.jpg"
    photograph().save(path, **options)
    return path.read_bytes()


def with_code_table(whole, content):
    """A JPEG file with another segment of code tables before its own."""
    at = whole.index(b"\xff\xc4")
    return whole[:at] + segment(0xC4, content) + whole[at:]


def damaged_pictures(folder):
    """Files that no reader may take; in the second list, those that Pillow mends or reads and the runner refuses."""
    whole, cmyk = jpeg(folder=folder), folder / "cmyk.jpg"
    photograph().convert("CMYK").save(cmyk)
    cut = cmyk.read_bytes().index(b"\xff\xee")
    gif = folder / "moving.gif"
    photograph().save(gif, save_all=True, append_images=[photograph(61, 47).transpose(Image.Transpose.ROTATE_180)])
    every = {
        "fill-before-start.jpg": b"\xff" + whole,
        "cut.jpg": whole[: len(whole) // 2],
        "no-mark.jpg": cmyk.read_bytes()[:cut] + cmyk.read_bytes()[cut + 16 :],
        "wide.png": png(12_000, 12_000, pixels=b"\0"),
        "long.png": png(40_000, 1, pixels=bytes(120_001)),
        "checksum.png": png(2, 2, pixels=bytes(14)).replace(b"IDAT", b"IDAT"[:3] + b"U"),
        "few.png": png(9, 9, pixels=bytes(20)),
        "moving.png": gif.read_bytes(),
        "empty.jpg": b"",
        "text.png": b"no picture",
    }
    runner_only = {
        "no-palette.png": png(2, 2, 8, 3, bytes(6)),
        "too-many-codes.jpg": with_code_table(whole, b"\0" + b"\xff" * 16),
        "rest-behind-table.jpg": with_code_table(whole, b"\0" + b"\2" + bytes(15) + b"\0\1" + b"\xff"),
        "short-table.jpg": with_code_table(whole, b"\0" + b"\x09" + bytes(15)),
        "two-frames.jpg": whole.replace(b"\xff\xda", whole[whole.index(b"\xff\xc0") :][:19] + b"\xff\xda", 1),
        "scans.jpg": whole[: whole.index(b"\xff\xda")] + whole[whole.index(b"\xff\xda") : -2] * 101 + b"\xff\xd9",
    }
    return every, runner_only


def words_of_python(path):
    try:
        read_rgb(path)
    except DAMAGED as error:
        return str(error)
    return ""


@decodes_pictures
def test_pictures_that_are_made_to_fool_a_decoder_are_refused(program, bundle, tmp_path):
    every, runner_only = damaged_pictures(tmp_path)
    for name, content in {**every, **runner_only}.items():
        (path := tmp_path / name).write_bytes(content)
        done = subprocess.run([program, bundle, path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), name
        assert done.stderr.startswith(f"error: image {path} "), name
        assert name in runner_only or words_of_python(path), name


@decodes_pictures
@pytest.mark.parametrize("kind", ["bmp", "gif", "tif"])
def test_other_pictures_are_named_with_the_way_out(program, bundle, tmp_path, kind):
    photograph().save(path := tmp_path / f"picture.{kind}")
    done = subprocess.run([program, bundle, path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "file; this program decodes PNG, JPEG and WebP\n  convert it: convert" in done.stderr
    assert kind.upper() in done.stderr.upper()
    assert read_rgb(path).size == photograph().size


def test_numbers_that_are_not_finite_are_refused(program, bundle, tmp_path):
    size = fuzzed_runner.SIZE
    for number, bad in enumerate((np.nan, np.inf, -np.inf)):
        images = np.zeros((2, size, size, 3), np.float32)
        images[1, 2, 1, number] = bad
        np.save(tmp_path / "given.npy", images)
        images.tofile(tmp_path / "given.raw")
        for name in ("given.npy", "given.raw"):
            done = subprocess.run([program, bundle, tmp_path / name], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (2, "")
            assert f"as its number {48 + 24 + 3 + number}" in done.stderr
    np.save(tmp_path / "huge.npy", np.full((size, size, 3), 3e38, np.float32))
    assert subprocess.run([program, bundle, tmp_path / "huge.npy"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("what", ["pipe.png", "pipe.npy", "pipe.raw", "pipe.ppm", "zero.png", "zero.raw", "folder.png"])
def test_pipes_devices_and_folders_are_refused_at_once(program, bundle, tmp_path, what):
    path = tmp_path / what
    if what.startswith("pipe"):
        os.mkfifo(path)
    elif what.startswith("zero"):
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    done = subprocess.run([program, bundle, path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    told = "holds no input" if path.is_dir() else ", not a file"
    assert told in done.stderr or "built without" in done.stderr


def answers(program, where, folder, *options):
    np.save(folder / "given.npy", np.zeros((fuzzed_runner.SIZE, fuzzed_runner.SIZE, 3), np.float32))
    command = [program, where, folder / "given.npy", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_a_library_that_is_cut_off_is_refused(program, bundle, tmp_path, share):
    library = bundle / "model.so"
    whole = library.read_bytes()
    library.write_bytes(whole[: int(share * len(whole))])
    for where in (library, bundle):
        done = answers(program, where, tmp_path, "--no-verify")
        assert done.returncode == 2, (done.returncode, done.stderr)
        assert "is cut off or damaged" in done.stderr or "is not a library" in done.stderr


def test_a_gpus_library_without_a_driver_says_that_it_is_missing(program, bundle, tmp_path):
    """With a version that no machine has."""
    driver, unit = tmp_path / "libcuda.so.99", tmp_path / "call.c"
    unit.write_text("int cuInit(unsigned);\nint ofa_tvm_run(void) { return cuInit(0); }\n")
    make = ["cc", "-shared", "-fPIC", "-o"]
    subprocess.run([*make, driver, "-Wl,-soname,libcuda.so.99", "-x", "c", os.devnull], check=True)
    subprocess.run([*make, bundle / "model.so", unit, "-Wl,--no-as-needed", driver], check=True)
    driver.unlink()
    done = answers(program, bundle, tmp_path, "--no-verify")
    assert done.returncode == 1
    assert "NVIDIA's driver is missing on this machine: install version 580 or newer" in done.stderr


def test_a_link_to_a_library_is_followed(program, bundle, tmp_path):
    (bundle / "model.so").rename(tmp_path / "elsewhere.so")
    (bundle / "model.so").symlink_to(tmp_path / "elsewhere.so")
    assert answers(program, bundle, tmp_path).returncode == 0


SWAP = """
#include <stdio.h>
#include <limits>
#include "ofa_tvm.h"
/* Opens BUNDLE; puts OTHER in its library's place; opens again without checks, and asks both. */
int main(int count, char **arguments) {
  float images[96] = {0}, logits[6];
  ofa_tvm_model *first = ofa_tvm_model_open(arguments[1], OFA_TVM_VERIFY);
  if (!first || rename(arguments[2], arguments[3])) return 2;
  ofa_tvm_model *second = ofa_tvm_model_open(arguments[1], OFA_TVM_NO_VERIFY);
  if (!second || ofa_tvm_model_run(first, images, 96, logits, 6)) return 3;
  const float one = logits[0];
  if (ofa_tvm_model_run(second, images, 96, logits, 6)) return 4;
  printf("%g %g\\n", one, logits[0]);
  if (ofa_tvm_model_open(arguments[1], OFA_TVM_VERIFY)) return 5;
  ofa_tvm_model_close(first);
  ofa_tvm_model_close(second);
  images[5] = std::numeric_limits<float>::infinity();
  second = ofa_tvm_model_open(arguments[1], OFA_TVM_NO_VERIFY);
  const int answered = ofa_tvm_model_run(second, images, 96, logits, 6);
  ofa_tvm_model_close(second);
  return answered == -1 ? 0 : 6;
}
"""


def test_two_libraries_of_one_name_are_two_and_not_finite_images_are_refused(library, bundle, tmp_path):
    other = tmp_path / "other.so"
    source = fuzzed_runner.STUB.replace("= images[i]", "= images[i] + 7")
    subprocess.run(["gcc", "-shared", "-fPIC", "-s", "-x", "c", "-", "-o", other], input=source, text=True, check=True)
    (tmp_path / "swap.cc").write_text(SWAP)
    swap = library.program(tmp_path / "swap.cc")
    done = subprocess.run([swap, bundle, other, bundle / "model.so"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0 7\n"), done.stderr


@pytest.mark.parametrize(("path", "value"), fuzzed_runner.NONSENSE)
def test_a_manifest_that_makes_no_sense_is_refused(program, bundle, tmp_path, path, value):
    file = bundle / "manifest.json"
    text = json.dumps(fuzzed_runner.changed(json.loads(file.read_text()), path, value)).replace("Infinity", "1e999")
    file.write_text(text)
    done = answers(program, bundle, tmp_path)
    assert done.returncode == 2
    assert "is damaged: " in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 2


def test_names_in_messages_are_printable(program, bundle, tmp_path):
    file = bundle / "manifest.json"
    library = (bundle / "model.so").read_bytes()
    facts = {"bytes": len(library), "sha256": hashlib.sha256(library).hexdigest()}
    file.write_text(json.dumps(fuzzed_runner.changed(json.loads(file.read_text()), ("files", "\x1b[2Jx"), facts)))
    done = answers(program, bundle, tmp_path)
    assert "'?[2Jx' is no file name" in done.stderr


@decodes_pictures
@pytest.mark.seconds(30)
def test_damaged_files_do_no_harm_under_sanitizers(library, tmp_path):
    done = fuzzed_runner.fuzz(tmp_path, library.program(fuzzed_runner.FUZZER), 1000, 1)
    assert done.returncode == 0, done.stderr
    taken, refused = map(int, done.stdout.split())
    assert taken > 100 and refused > 400
