"""A small folder of pictures as people have them, to try ``--data imagefolder:PATH`` with.

Five classes of CIFAR-10, 250 training and all 1,000 test pictures each (``--per-class``, ``--test-per-class``), in many
sizes, formats and modes: ``python examples/small_data.py FOLDER``, then
``python -m ofa_tvm.train --data imagefolder:FOLDER --out DIR``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ofa_tvm.data import load_dataset
from ofa_tvm.support.console import Task, log

CLASSES = ("airplane", "automobile", "cat", "horse", "ship")
TURN_BACK = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""What undoes what a viewer does for each orientation that a camera may note."""
ORIENTATION = 0x0112


def write(picture: Image.Image, path: Path, rng: np.random.Generator) -> None:
    """Write a picture in a random size, shape, format and mode."""
    width, height = (int(side) for side in rng.integers(40, 301, 2))
    picture = picture.resize((width, min(height, 2 * width)), Image.Resampling.BICUBIC)
    match rng.choice(["jpeg", "turned", "cmyk", "grey", "png", "palette", "alpha", "webp"]):
        case "jpeg":
            picture.save(path.with_suffix(".jpg"), quality=int(rng.integers(60, 96)))
        case "turned":
            orientation = int(rng.choice(list(TURN_BACK)))
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            picture.transpose(TURN_BACK[orientation]).save(path.with_suffix(".jpeg"), exif=exif)
        case "cmyk":
            picture.convert("CMYK").save(path.with_suffix(".jpg"))
        case "grey":
            picture.convert("L").save(path.with_suffix(".png"))
        case "png":
            picture.save(path.with_suffix(".png"))
        case "palette":
            picture.convert("P", palette=Image.Palette.ADAPTIVE).save(path.with_suffix(".png"))
        case "alpha":
            picture.putalpha(255)
            picture.save(path.with_suffix(".png"))
        case "webp":
            picture.save(path.with_suffix(".webp"), quality=80)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, default=250, help="training pictures of each class")
    parser.add_argument("--test-per-class", type=int, default=1000, help="test pictures of each class (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, dataset = np.random.default_rng(options.seed), load_dataset("cifar10", log)
    parts = (
        ("train", dataset.all_training, options.per_class),
        ("test", dataset.test, options.test_per_class),
    )
    log(f"writing {options.per_class} training and {options.test_per_class} test pictures of each class ...")
    with Task("classes", len(CLASSES)) as task:
        for name in CLASSES:
            for part, split, most in parts:
                folder = options.folder / part / name
                folder.mkdir(parents=True, exist_ok=True)
                for place, row in enumerate(np.flatnonzero(split.labels == dataset.class_names.index(name))[:most]):
                    write(Image.fromarray(split.images[row]), folder / f"{place:04}", rng)
            task.advance()
    log(f"wrote {options.folder}; train with --data imagefolder:{options.folder}")


if __name__ == "__main__":
    main()
