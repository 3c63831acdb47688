"""The official OFA-ResNet50 checkpoint as a supernet of one of its widths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces import RESNET50D, RESNET50D_W065, RESNET50D_W08
from ofa_tvm.spaces.resnet import identity_name
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.supernet.published_names import NORM, own_names
from ofa_tvm.support.errors import UserError

SPACES = {space.width: space for space in (RESNET50D_W065, RESNET50D_W08, RESNET50D)}
PARTS = {"expand": "conv1", "middle": "conv2", "project": "conv3", "shortcut": "downsample"}
STEM = {"stem": "input_stem.0", "block2_middle": "input_stem.1.conv", "block1_last": "input_stem.2"}


def is_resnet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are those of an OFA-ResNet50."""
    return "input_stem.0.conv.weight" in tensors


def read_resnet(tensors: Mapping[str, Tensor], width: float, path: Path) -> Supernet:
    """The supernet of a width.

    Args:
        tensors: of the file, by OFA's present names.
        width: of all stages.
        path: of the file, for messages.

    Raises:
        UserError: the width is none of the family's, or a tensor is missing or has another shape.
    """
    if width not in SPACES:
        raise UserError(f"OFA-ResNet50 has no width {width:g}", f"choose one of {', '.join(map(str, SPACES))}")
    head = tensors.get("classifier.linear.weight")
    if head is None or head.dim() != 2:
        raise UserError(f"{path} has no classifier.linear.weight, which {RESNET50D.name} needs")
    named, short = dict(tensors), "input_stem.1.conv.weight"
    if short in named:  # of a static network, where one name too many was taken off
        named["input_stem.1.conv.conv.weight"] = named[short]
    whole = RESNET50D.with_classes(len(head))
    found = own_names(whole, named, _pairs, path)
    supernet = Supernet(SPACES[width].with_classes(len(head)))
    with torch.no_grad():
        for name, tensor in supernet.named_tensors():
            if name in found:
                tensor.copy_(found[name][tuple(slice(0, size) for size in tensor.shape)])
        identity = supernet.get_parameter(f"layers.{identity_name(whole)}.weight")
        identity.copy_(torch.eye(len(identity))[:, :, None, None])
    return supernet


def _pairs(layer: LayerSpec) -> list[tuple[str, str]]:
    """(our name, their name) of the tensors of a layer."""
    if layer.kind == "linear":
        return [(name, f"classifier.linear.{name}") for name in ("weight", "bias")]
    if layer.kind != "conv" or layer.name == identity_name(RESNET50D):
        return []
    prefix = STEM.get(layer.name) or _of_block(layer.name)
    return [("weight", f"{prefix}.conv.weight"), *((f"norm.{name}", f"{prefix}.bn.{name}") for name in NORM)]


def _of_block(name: str) -> str:
    number, _, part = name.removeprefix("block").partition("_")
    stage, position = divmod(int(number) - 1, RESNET50D.max_depth)
    before = sum(RESNET50D.stage_blocks[1:stage])
    return f"blocks.{before + position}.{PARTS[part]}"
