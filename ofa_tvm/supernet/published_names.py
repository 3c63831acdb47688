"""Tensors of third-party files under our names; the error names the first that does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from ofa_tvm.graph.network import LayerSpec
from ofa_tvm.spaces import SearchSpace
from ofa_tvm.support.errors import UserError

NORM = ("weight", "bias", "running_mean", "running_var")


def own_names(
    space: SearchSpace,
    tensors: Mapping[str, Tensor],
    pairs: Callable[[LayerSpec], list[tuple[str, str]]],
    path: Path,
) -> dict[str, Tensor]:
    """A file's tensors under the names that a supernet's largest network has for them.

    Args:
        space: of the supernet.
        tensors: of the file.
        pairs: (our name, their name) of the tensors of a layer, its weight first.
        path: of the file, for messages.

    Raises:
        UserError: one is missing or has another shape; names the first.
    """
    renamed = {}
    for layer in space.network(space.largest).layers:
        for ours, theirs in pairs(layer):
            if theirs not in tensors:
                raise UserError(f"{path} has no {theirs}, which {space.name} needs")
            wanted, shape = _shape(layer, ours), tuple(tensors[theirs].shape)
            if shape != wanted:
                raise UserError(f"{theirs} of {path} has shape {shape}, {space.name} needs {wanted}")
            if not _is_sound(tensors[theirs], ours):
                raise UserError(f"{theirs} of {path} holds what is no weight", "get the file again")
            renamed[f"layers.{layer.name}.{ours}"] = tensors[theirs]
    return renamed


def _is_sound(tensor: Tensor, ours: str) -> bool:
    """Whether a tensor holds finite fractions, and no negative variance."""
    is_finite = tensor.is_floating_point() and bool(tensor.isfinite().all())
    return is_finite and (not ours.endswith("running_var") or bool((tensor >= 0).all()))


def _shape(layer: LayerSpec, tensor: str) -> tuple[int, ...]:
    inputs, outputs, hidden, kernel = layer.in_channels, layer.out_channels, layer.hidden_channels, layer.kernel_size
    shapes = {
        ("linear", "weight"): (outputs, inputs),
        ("depthwise", "weight"): (outputs, 1, kernel, kernel),
        ("conv", "weight"): (outputs, inputs, kernel, kernel),
        ("squeeze_excite", "reduce.weight"): (hidden, inputs, 1, 1),
        ("squeeze_excite", "reduce.bias"): (hidden,),
        ("squeeze_excite", "expand.weight"): (inputs, hidden, 1, 1),
    }
    return shapes.get((layer.kind, tensor), (outputs,))
