"""A folder of images of a user: sizes, formats, splits, cache, and every way to get it wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from ofa_tvm.data import known_classes, load_dataset
from ofa_tvm.data.image_pack import write_pack
from ofa_tvm.support.errors import UserError

COLOURS = {"ant": (200, 30, 30), "bee": (30, 200, 30), "cow": (30, 30, 200)}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder, count, size=(24, 20), suffix=".png"):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{number:03}{suffix}")


@pytest.fixture
def root(tmp_path):
    fill(tmp_path / "images" / "train", 10)
    return tmp_path / "images"


def load(root, progress=lambda message: None):
    return load_dataset(f"imagefolder:{root}", progress)


def test_classes_are_folders_in_order(root):
    fill(root / "val", 2)
    dataset = load(root)
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.name == f"imagefolder:{root}"
    assert dataset.all_training.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.all_training.images.shape == (30, 20, 20, 3)
    for split in (dataset.train, dataset.validation, dataset.test):
        colours = np.asarray(list(COLOURS.values()))[split.labels]
        assert np.array_equal(split.images[:, 3, 5], colours)
    assert len(dataset.validation) == 7


def test_classes_are_known_without_the_images(root, tmp_path):
    assert known_classes(f"imagefolder:{root}") == ("ant", "bee", "cow")
    assert len(known_classes("cifar10") or ()) == len(known_classes("fashion-mnist") or ()) == 10
    write_pack(load(root), tmp_path / "pack")
    assert known_classes(f"pack:{tmp_path / 'pack'}") == ("ant", "bee", "cow")
    with pytest.raises(UserError, match="unknown data set"):
        known_classes("mnist")


def test_without_test_folder_a_fixed_tenth_of_train_is_the_test_split(root):
    first, second = load(root), load(root)
    assert (len(first.all_training), len(first.test)) == (27, 3)
    assert np.array_equal(first.test.labels, second.test.labels)
    assert sorted([*first.all_training.labels, *first.test.labels]) == [0] * 10 + [1] * 10 + [2] * 10


def test_loose_pictures_and_classes_without_test_images_are_told(root):
    fill(root / "test", 2)
    for picture in (root / "test" / "bee").iterdir():
        picture.unlink()
    (root / "test" / "bee").rmdir()
    Image.new("RGB", (24, 20)).save(loose := root / "train" / "loose.png")
    messages: list[str] = []
    load(root, messages.append)
    assert messages[:2] == [
        f"left out, as they are in no class folder: {loose}",
        f"beware: {root / 'test'} has no images of bee: accuracies on test images say nothing of them",
    ]


def test_val_comes_before_test(root):
    fill(root / "test", 3)
    assert len(load(root).test) == 9
    fill(root / "val", 1)
    assert len(load(root).test) == 3


def test_centre_of_the_longer_side_is_kept(root):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(root / "train" / "ant" / "000.png")
    fill(root / "val", 1)
    image = load(root).all_training.images[0]
    assert image[:, 1:-1].min() > 250


@pytest.mark.parametrize(("size", "expected"), [((32, 32), 32), ((47, 51), 44), ((300, 280), 224), ((3, 9), 4)])
def test_size_follows_the_images(tmp_path, size, expected):
    fill(tmp_path / "images" / "train", 4, size)
    assert load(tmp_path / "images").test.images.shape[1:] == (expected, expected, 3)


def test_one_small_image_does_not_set_the_size(root):
    Image.new("RGB", (5, 5)).save(root / "train" / "ant" / "000.png")
    assert load(root).test.images.shape[1] == 20


def test_formats_and_modes(root):
    folder = root / "train" / "ant"
    for mode in ("L", "LA", "P", "RGBA", "1", "I;16"):
        Image.new(mode, (24, 20)).save(folder / f"mode-{mode.replace(';', '')}.png")
    Image.new("CMYK", (24, 20)).save(folder / "x.JPG")
    Image.new("RGB", (24, 20)).save(folder / "y.webp")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    (root / "train" / ".thumbnails").mkdir()
    for kind in ("bmp", "gif", "tif"):
        Image.new("RGB", (24, 20)).save(folder / f"z.{kind}")
    messages: list[str] = []
    dataset = load(root, messages.append)
    assert len(dataset.all_training) + len(dataset.test) == 41
    assert messages[0] == f"left out, as their names are of no picture: {folder / 'notes.txt'}"
    assert dataset.class_names == ("ant", "bee", "cow")


def test_decoded_once_until_a_file_changes(root, cache):
    messages: list[str] = []
    first = load(root, messages.append)
    assert np.array_equal(load(root, messages.append).test.images, first.test.images)
    assert len(messages) == 1 and "decoding 30 images" in messages[0]
    os.utime(root / "train" / "bee" / "004.png", ns=(1, 1))
    load(root, messages.append)
    assert len(messages) == 2
    assert not [path for path in cache.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("damage", [lambda whole: whole[:200], lambda whole: b"", lambda whole: b"x" * len(whole)])
def test_damaged_cache_is_made_again(root, cache, damage):
    expected = load(root).test.images.copy()
    (cached,) = cache.rglob("*.npy")
    cached.write_bytes(damage(cached.read_bytes()))
    assert np.array_equal(load(root).test.images, expected)


def test_images_are_writable_but_the_cache_is_not_changed(root, cache):
    fill(root / "val", 1)
    load(root).test.images[:] = 7
    assert not (load(root).test.images == 7).all()


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "broken link"])
@pytest.mark.parametrize("number", ["000", "007"])
def test_damaged_image_is_named(root, cache, damage, number):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = root / "train" / "bee" / f"{number}.png"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.unlink()
    if damage == "broken link":
        path.symlink_to("nowhere.png")
    else:
        path.write_bytes({"empty": b"", "text": b"no image", "truncated": whole[: len(whole) // 2]}[damage])
    with pytest.raises(UserError, match=rf"image .*bee/{number}.png cannot be read"):
        load(root)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_all_damaged_images_are_named_at_once(root):
    paths = [root / "train" / name / f"{number:03}.png" for name in COLOURS for number in (1, 4)]
    for path in paths[:3]:
        path.unlink()
        path.symlink_to("nowhere.png")
    for path in paths[3:]:
        path.write_bytes(b"no image")
    with pytest.raises(UserError) as caught:
        load(root)
    assert [line.split(" cannot be read")[0] for line in caught.value.what.splitlines()] == [
        f"image {path}" for path in paths
    ]
    assert caught.value.hint == "replace or remove them"


def test_no_path():
    with pytest.raises(UserError, match="imagefolder:PATH"):
        load_dataset("imagefolder")


def test_no_train_folder(tmp_path):
    with pytest.raises(UserError, match="has no folder train"):
        load(tmp_path)


def test_one_class(tmp_path):
    (tmp_path / "train" / "only").mkdir(parents=True)
    with pytest.raises(UserError, match="at least two"):
        load(tmp_path)


def test_too_few_images(tmp_path):
    fill(tmp_path / "train", 2)
    with pytest.raises(UserError, match="holds 6 images, at least 10"):
        load(tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_empty_class_folder_is_named(root, split):
    (root / split / "dog").mkdir(parents=True)
    (root / "train" / "dog").mkdir(exist_ok=True)
    if split == "val":
        Image.new("RGB", (24, 20)).save(root / "train" / "dog" / "0.png")
    with pytest.raises(UserError, match=rf"{split}/dog holds no images"):
        load(root)


def test_unknown_class_in_val_is_named(root):
    fill(root / "val", 1)
    (root / "val" / "emu").mkdir()
    with pytest.raises(UserError, match="val/emu is a class that train has no folder for"):
        load(root)


def test_empty_val(root):
    (root / "val").mkdir()
    with pytest.raises(UserError, match="val holds no class folders"):
        load(root)


def moving(path):
    frames = [Image.new("RGB", (9, 9), colour) for colour in COLOURS.values()]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


ODD = {
    "pipe": (os.mkfifo, "it is a pipe, a device or a folder"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe, a device or a folder"),
    "folder": (lambda path: path.mkdir(), "Is a directory|it is a pipe, a device or a folder"),
    "moving": (moving, "it moves"),
    "numbers": (lambda path: Image.new("F", (9, 9)).save(path, "TIFF"), "its numbers are no colours"),
    "wide": (lambda path: Image.new("1", (40_000, 1)).save(path, "PNG"), "40000 x 1 pixels, more than"),
    "postscript": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "it is none of JPEG, PNG"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_still_picture_is_named(root, what):
    make, message = ODD[what]
    make(path := root / "train" / "ant" / "odd.png")
    with pytest.raises(UserError, match=rf"image {path} cannot be read: .*({message})"):
        load(root)


def test_names_that_are_not_utf8(root):
    folder = root / "train" / "ant"
    (folder / "000.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    assert len(load(root).all_training) == 27
    (folder / os.fsdecode(b"na\xefve.png")).touch()
    with pytest.raises(UserError, match=r"na\?ve.png cannot be read"):
        load(root)


@pytest.mark.parametrize("name", [b"red\x1b[31m", b"two\nlines", b"caf\xe9"])
def test_class_folders_that_no_terminal_shows_are_refused(root, name):
    (root / "train" / "ant").rename(root / "train" / os.fsdecode(name))
    with pytest.raises(UserError, match="has control characters or is not UTF-8") as refused:
        load(root)
    assert refused.value.what.isprintable()


@pytest.mark.parametrize("name", [b"a\nb.png", "\u00e9.png".encode()])
def test_images_may_have_any_name(root, name):
    (root / "train" / "ant" / "000.png").rename(os.fsdecode(os.fsencode(root / "train" / "ant") + b"/" + name))
    assert len(load(root).train) > 0
