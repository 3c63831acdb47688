"""Run a bundle's library in a program of your own: ``python examples/run_bundle.py BUNDLE IMAGE``.

It needs numpy, Pillow and TVM's runtime; nothing of ofa_tvm.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import tvm
from PIL import Image


def main() -> None:
    """Print the five likeliest classes."""
    bundle, image = Path(sys.argv[1]), Path(sys.argv[2])
    manifest = json.loads((bundle / "manifest.json").read_text())
    batch, size, _, _ = manifest["input"]["shape"]
    prepare = manifest["preprocess"]
    pixels = np.asarray(Image.open(image).convert("RGB").resize((size, size)), np.float32) / 255
    normalised = (pixels - np.float32(prepare["mean"])) / np.float32(prepare["std"])
    images = np.repeat(normalised[None], batch, axis=0).astype(np.float32)

    module = tvm.runtime.load_module(str(bundle / "model.so"))
    logits = tvm.runtime.tensor(np.zeros((batch, manifest["classes"]), np.float32))
    module["main"](tvm.runtime.tensor(images), logits)

    scores = logits.numpy()[0]
    for number in np.argsort(-scores)[:5]:
        print(f"{scores[number]:8.3f}  {manifest['class_names'][number]}")


if __name__ == "__main__":
    main()
