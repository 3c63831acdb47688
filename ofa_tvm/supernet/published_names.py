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
            require_sound(tensors[theirs], theirs, _shape(layer, ours), space, path)
            renamed[f"layers.{layer.name}.{ours}"] = tensors[theirs]
    return renamed


def require_sound(tensor: Tensor, name: str, wanted: tuple[int, ...], space: SearchSpace, path: Path) -> None:
    """Check a tensor of a file.

    Args:
        tensor: what was read.
        name: its name in the file.
        wanted: its shape.
        space: that needs it.
        path: of the file, for messages.

    Raises:
        UserError: it has another shape, or holds what no training gives.
    """
    if (shape := tuple(tensor.shape)) != wanted:
        raise UserError(f"{name} of {path} has shape {shape}, {space.name} needs {wanted}")
    if not _is_sound(tensor, name):
        raise UserError(f"{name} of {path} holds what is no weight", "get the file again")


def _is_sound(tensor: Tensor, name: str) -> bool:
    """Whether a tensor holds fractions that are finite in float32, and no negative variance."""
    is_finite = tensor.is_floating_point() and bool(tensor.float().isfinite().all())
    return is_finite and (not name.endswith("running_var") or bool((tensor >= 0).all()))


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
