"""EfficientNet-Lite's published weights on photographs: our library against the code that they were published with.

The oracle and the photographs are of development only (Apache-2.0; BSD, pictures CC BY): ``pip install --no-deps
efficientnet_lite_pytorch==0.1.0 scikit-learn``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.measurement.classifier import Classifier
from ofa_tvm.supernet.augment import preprocess
from ofa_tvm.supernet.efficientnet_weights import PUBLISHED
from ofa_tvm.supernet.start import open_start
from ofa_tvm.supernet.subnet import extract

PLACES = [(across, down) for across in (0.0, 0.5, 1.0) for down in (0.0, 1.0)]


def photographs(size: int) -> torch.Tensor:
    """(n, 3, size, size) uint8: scikit-learn's two pictures, cut out at several places."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        pytest.skip("scikit-learn is not installed")
    cut = []
    for path in sorted((Path(found.origin).parent / "datasets" / "images").glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        cut += [ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC, centering=place) for place in PLACES]
    assert len(cut) == 2 * len(PLACES)
    return torch.from_numpy(np.stack([np.asarray(one) for one in cut])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def oracle() -> Any:
    """The published code's networks."""
    return pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle is not installed").EfficientNet


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(PUBLISHED))
@torch.inference_mode()
def test_photographs_have_the_published_logits(oracle, name):
    weights = importlib.util.find_spec(PUBLISHED[name].package)
    if weights is None or weights.origin is None:
        pytest.skip("the weights are not installed")
    (path,) = Path(weights.origin).parent.glob("models/*.pth")
    start = open_start(name)
    subnet = extract(start.supernet, start.supernet.space.largest)
    size = subnet.network.resolution
    images = preprocess(photographs(size), start.preprocess, size)
    official = oracle.from_pretrained(name, weights_path=str(path)).eval()
    expected = official(images)
    classify = Classifier(subnet.network, subnet.folded(), load_target("x86"), {}, 1)
    logits = classify(images.permute(0, 2, 3, 1).contiguous().numpy())
    print(f"{name}: largest difference {np.abs(logits - expected.numpy()).max():.1e}, classes {expected.argmax(1)}")
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-3)
    torch.testing.assert_close(subnet(images), expected, rtol=0, atol=1e-3)
