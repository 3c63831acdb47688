"""Weights that a training starts from: a trained supernet, or published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ofa_tvm.data.dataset import Dataset, Preprocess
from ofa_tvm.spaces.own_model import OwnModel
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.efficientnet_weights import PREPROCESS, PUBLISHED, published_supernet
from ofa_tvm.supernet.elastic_start import elastic_supernet
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.shipped import shipped_supernets


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Args:
        supernet: holds them.
        preprocess: what turned images into its input.
        class_names: what its outputs mean; empty where unknown.
        name: identifies the weights.
        source: what the user called them.
    """

    supernet: Supernet
    preprocess: Preprocess
    class_names: tuple[str, ...]
    name: str
    source: str

    def elastic(self, dataset: Dataset, resolutions: Sequence[int] = ()) -> Start:
        """The same, elastic where it is one network; the images tell what its layers give.

        Raises:
            UserError: nothing can be cut out of it.
        """
        space = self.supernet.space
        if not isinstance(space, OwnModel) or space.most_blocks:
            return self
        return replace(self, supernet=elastic_supernet(self.supernet, space, dataset, resolutions))

    def copy_to(self, supernet: Supernet, class_names: tuple[str, ...]) -> None:
        """Copy all weights, those of the classifier only where its classes are the same.

        Raises:
            UserError: the supernet is of another space.
        """
        if supernet.space.name != self.supernet.space.name:
            raise UserError(
                f"{self.source} has weights of space {self.supernet.space.name}, not of {supernet.space.name}",
                f"leave --space out, or give --space {self.supernet.space.name}",
            )
        parameters, tensors = supernet.state_dict(), self.supernet.state_dict()
        if class_names != self.class_names:
            head = supernet.space.network(supernet.space.largest).layers[-1].name
            tensors = {name: one for name, one in tensors.items() if not name.startswith(f"layers.{head}.")}
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)


def open_start(source: str) -> Start:
    """The weights that ``--init`` names: one of ``PUBLISHED``, or a supernet's file, folder or shipped name.

    Raises:
        UserError: there is neither, or it cannot be read.
    """
    if source in PUBLISHED:
        supernet = published_supernet(source)
        return Start(supernet, PREPROCESS, (), source, source)
    path = checkpoint_path(Path(source))
    if not path.exists():
        sources = [*PUBLISHED, *(folder.name for folder in shipped_supernets())]
        raise UserError(f"{source} is neither a supernet nor published weights", f"there are {', '.join(sources)}")
    supernet, facts = load_supernet(path)
    names = facts.class_names if facts.is_named else ()
    return Start(supernet, facts.preprocess, names, sha256_file(path)[:16], source)
