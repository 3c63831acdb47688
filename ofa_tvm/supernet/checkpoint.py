"""Supernet checkpoints: safetensors with the facts about the weights in the header."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ofa_tvm.data.dataset import Preprocess
from ofa_tvm.errors import UserError
from ofa_tvm.spaces import get_space
from ofa_tvm.storage import write_atomic
from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.model import Supernet

FILE_NAME = "supernet.safetensors"
FORMAT = "ofa_tvm.supernet/1"


@dataclass(frozen=True)
class SupernetFacts:
    """What a checkpoint says of itself.

    Args:
        space: name of the search space.
        data: name of the data set that it was trained on.
        class_names: what the outputs mean.
        preprocess: what turns an image into its input.
        training: plan, seed and progress.
    """

    space: str
    data: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    training: dict[str, Any] = field(default_factory=dict)


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: SupernetFacts) -> None:
    """Write tensors and facts atomically."""
    header = {"format": FORMAT, "facts": json.dumps(asdict(facts))}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, lambda beside: save_file(contiguous, beside, header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], SupernetFacts]:
    """Read tensors and facts.

    Raises:
        UserError: missing, damaged, or not a supernet of this format.
    """
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist", "train one with 'python -m ofa_tvm.train'")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(f"{path} is not a supernet checkpoint of format {FORMAT}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(header["facts"])
        preprocess = Preprocess(tuple(facts["preprocess"]["mean"]), tuple(facts["preprocess"]["std"]))
        return tensors, SupernetFacts(
            facts["space"], facts["data"], tuple(facts["class_names"]), preprocess, facts["training"]
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"checkpoint {path} is damaged: {error}", "restore it from a copy, or train it again"
        ) from error


def save_supernet(path: Path, supernet: Supernet, facts: SupernetFacts) -> None:
    """Write a trained supernet."""
    save_tensors(path, supernet.state_dict(), facts)


def checkpoint_path(path: Path) -> Path:
    """The checkpoint that a file or training folder stands for."""
    return path / FILE_NAME if path.is_dir() else path


def load_supernet(path: Path) -> tuple[Supernet, SupernetFacts]:
    """Read a trained supernet from a file or training folder.

    Raises:
        UserError: missing or damaged file, unknown space, or weights that do not fit the space.
    """
    path = checkpoint_path(path)
    tensors, facts = load_tensors(path)
    supernet = Supernet(get_space(facts.space).with_classes(len(facts.class_names)))
    try:
        supernet.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"checkpoint {path} does not fit space {facts.space}: {first}") from error
    return channels_last(supernet).eval(), facts
