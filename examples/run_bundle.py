"""Run a bundle's library in a program of your own: ``python examples/run_bundle.py BUNDLE IMAGE``.

It needs numpy, Pillow and TVM's runtime; nothing of ofa_tvm.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from PIL import Image, ImageOps

KNOWN = {
    "order": "upright, 8-bit RGB, crop, resize, scale, normalise",
    "crop": "largest centred square",
    "resize": "bilinear, antialiased",
}


def prepared(file: Path, size: int, prepare: dict[str, Any]) -> NDArray[np.float32]:
    """(size, size, 3): a picture as the manifest's ``preprocess`` says."""
    if any(prepare.get(key, value) != value for key, value in KNOWN.items()):
        sys.exit("error: this bundle's pictures are prepared in another way than this program knows")
    try:
        image = ImageOps.exif_transpose(Image.open(file))
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: of a damaged PNG file
        sys.exit(f"error: {file} is no picture: {error}")
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F", "LAB"):
        sys.exit(f"error: the numbers of {file} are no colours of 8 or 16 bits (mode {image.mode})")
    image = image.convert("RGB")
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    box = (left, top, left + side, top + side)
    if stored := prepare.get("stored_size"):  # as training stored its pictures, rounded to 8 bits
        image, box = image.resize((stored, stored), Image.Resampling.BILINEAR, box), (0, 0, stored, stored)
    planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in image.split()]
    resized = [np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR, box)) for plane in planes]
    mean, std = (np.asarray(prepare[name], np.float32) for name in ("mean", "std"))
    return np.asarray((np.stack(resized, axis=-1) / 255 - mean) / std, np.float32)


def main() -> None:
    """Print the five likeliest classes."""
    if len(sys.argv) != 3:
        sys.exit("usage: python run_bundle.py BUNDLE IMAGE")
    bundle, image = Path(sys.argv[1]), Path(sys.argv[2])
    if not (bundle / "manifest.json").is_file():
        sys.exit(f"error: {bundle} is no bundle: it has no manifest.json")
    manifest = json.loads((bundle / "manifest.json").read_text())
    batch, size, _, _ = manifest["input"]["shape"]
    normalised = prepared(image, size, manifest["preprocess"])
    images = np.repeat(normalised[None], batch, axis=0)

    logits = tvm.runtime.tensor(np.zeros((batch, manifest["classes"]), np.float32))
    try:
        module = tvm.runtime.load_module(str(bundle / "model.so"))
        module["main"](tvm.runtime.tensor(images), logits)
    except (AttributeError, OSError, RuntimeError, ValueError) as error:  # a GPU's needs its driver
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        sys.exit(f"error: {bundle / 'model.so'} cannot run here: {said}")

    scores = logits.numpy()[0]
    for number in np.argsort(-scores)[:5]:
        print(f"{scores[number]:8.3f}  {manifest['class_names'][number]}")


if __name__ == "__main__":
    main()
