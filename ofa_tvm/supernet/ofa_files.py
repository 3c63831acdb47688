"""Official OFA checkpoints (``ofa_nets``, ``ofa_checkpoints``) as our supernets.

Both generations of names are read, and static largest networks, whose kernel matrices then are identities. Only tensors
are loaded: a file that holds anything else is refused unread.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces import MBV3, MBV3_W12, PROXYLESS, SearchSpace
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.ofa_resnet import is_resnet, read_resnet
from ofa_tvm.supernet.published_names import NORM, own_names, require_sound
from ofa_tvm.support.console import log
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import cache_folder, sha256_file

SPACES = (MBV3, MBV3_W12, PROXYLESS)
PREPROCESS = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The preprocessing of all official networks."""
RENAMED = {
    ".mobile_inverted_conv.": ".conv.",
    ".bn.bn.": ".bn.",
    ".conv.conv.": ".conv.",
    ".linear.linear.": ".linear.",
}
DATA = "imagenet"
"""What official networks were trained on; to evaluate them, give its images with ``--data imagefolder:PATH``."""
MIN_CLASSES = 2
FAMILIES = "give a checkpoint of OFA-MobileNetV3, OFA-ProxylessNAS or OFA-ResNet50"
OUTSIDE = {"stem": "first_conv", "classifier": "classifier", "feature_mix": "feature_mix_layer"}
PARTS = {"expand": "inverted_bottleneck", "depthwise": "depth_conv", "project": "point_linear"}


def converted(path: Path) -> Path:
    """Our checkpoint of an official one, made once and kept in the cache; of an elastic width the largest.

    Raises:
        UserError: see ``read_ofa``.
    """
    sha256 = sha256_file(path)
    path_of_copy = cache_folder() / "ofa" / f"{sha256[:24]}.safetensors"
    if not path_of_copy.exists():
        log(f"converting {path} (once)")
        write_converted(read_ofa(path), sha256, path_of_copy)
    return path_of_copy


def write_converted(supernet: Supernet, sha256: str, path: Path) -> None:
    """Write what was read from an official file of that hash as our checkpoint."""
    names = tuple(map(str, range(supernet.space.classes)))
    facts = SupernetFacts(supernet.space.name, DATA, names, PREPROCESS, {"unnamed": True, "source": sha256})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_supernet(path, supernet, facts)


def read_ofa(path: Path, width: float = 1.0) -> Supernet:
    """The supernet of an official checkpoint.

    Args:
        path: the file.
        width: of all stages, where the file is elastic in it.

    Raises:
        UserError: it is damaged, holds more than tensors, or is of no known family; names what does not fit.
    """
    tensors = _tensors(path)
    head = tensors.get("classifier.linear.weight")
    if head is not None and head.dim() == 2 and len(head) < MIN_CLASSES:
        raise UserError(f"{path} has a classifier of {len(head)} classes, at least {MIN_CLASSES} are needed", FAMILIES)
    if is_resnet(tensors):
        return channels_last(read_resnet(tensors, width, path)).eval()
    space = _space(tensors, path)
    if width != 1:
        raise UserError(f"{path} is of {space.name}, which has one width", "leave --width out")
    supernet = Supernet(space)
    names = own_names(space, tensors, lambda layer: _pairs(layer, "final_expand_layer.conv.weight" in tensors), path)
    for layer in space.network(space.largest).layers:
        if layer.kind == "depthwise":
            names |= _matrices(layer, tensors, space, path)
    supernet.load_state_dict(names, strict=False)
    return channels_last(supernet).eval()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        # Torch would read a file whose name ends in .safetensors as one, whatever is in it.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, or is damaged; it is not loaded", "give an official OFA file"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a checkpoint that can be read: {error}", FAMILIES) from error
    content = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(f"{path} holds no weights by name", FAMILIES)
    for name, tensor in content.items():
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
            raise UserError(f"{name} of {path} is no dense tensor with values", "save dense tensors, or get it again")
    return {_present_name(name): tensor for name, tensor in content.items()}


def _present_name(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _space(tensors: Mapping[str, Tensor], path: Path) -> SearchSpace:
    """The space whose widths are those of the file, with its number of classes."""
    stem, head = tensors.get("first_conv.conv.weight"), tensors.get("classifier.linear.weight")
    if stem is None or head is None or stem.dim() != 4 or head.dim() != 2:
        first = next(iter(tensors), "nothing")
        raise UserError(f"{path} is not an OFA checkpoint: it begins with {first}", FAMILIES)
    widths = (stem.shape[0], head.shape[1])
    for space in SPACES:
        network = space.network(space.largest)
        if widths == (network.layers[0].out_channels, network.layers[-1].in_channels):
            return space.with_classes(head.shape[0])
    spaces = ", ".join(space.name for space in SPACES)
    raise UserError(
        f"{path} has a stem of {widths[0]} channels and a head of {widths[1]}: no known width", f"known are {spaces}"
    )


def _pairs(layer: LayerSpec, has_two_heads: bool) -> list[tuple[str, str]]:
    """(our name, their name) of the tensors of a layer."""
    if layer.kind == "global_pool":
        return []
    if layer.kind == "linear":
        return [(name, f"classifier.linear.{name}") for name in ("weight", "bias")]
    block, _, part = layer.name.removeprefix("block").partition("_")
    if layer.kind == "squeeze_excite":
        prefix = f"blocks.{block}.conv.depth_conv.se.fc"
        return [
            (f"{one}.{name}", f"{prefix}.{one}.{name}") for one in ("reduce", "expand") for name in ("weight", "bias")
        ]
    if layer.name == "final_expand":  # ProxylessNAS names its only head like MobileNetV3's second
        prefix = "final_expand_layer" if has_two_heads else "feature_mix_layer"
    else:
        prefix = OUTSIDE.get(layer.name) or f"blocks.{block}.conv.{PARTS[part]}"
    norm = [(f"norm.{name}", f"{prefix}.bn.{name}") for name in NORM] if layer.norm else []
    return [("weight", f"{prefix}.conv.weight"), *norm]


def _matrices(layer: LayerSpec, tensors: Mapping[str, Tensor], space: SearchSpace, path: Path) -> dict[str, Tensor]:
    """Matrices that map the centres of larger kernels to smaller ones, as far as the file has them."""
    block = layer.name.removeprefix("block").partition("_")[0]
    matrices = {}
    for size in range(3, layer.kernel_size, 2):
        name = f"blocks.{block}.conv.depth_conv.conv.{size + 2}to{size}_matrix"
        if name in tensors:
            require_sound(tensors[name], name, (size**2, size**2), space, path)
            matrices[f"layers.{layer.name}.matrices.{size}"] = tensors[name]
    return matrices
