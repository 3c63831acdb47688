"""Supernet checkpoints: safetensors with the facts about the weights in the header."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.facts import FORMAT, SupernetFacts, checkpoint_path, damaged, read_facts
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import write_atomic


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: SupernetFacts) -> None:
    """Write tensors and facts atomically."""
    header = {"format": FORMAT, "facts": json.dumps(asdict(facts))}
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, lambda temporary: save_file(contiguous, temporary, header))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], SupernetFacts]:
    """Read tensors and facts.

    Raises:
        UserError: missing, damaged, or not a supernet of this format.
    """
    facts = read_facts(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, error) from error


def save_supernet(path: Path, supernet: Supernet, facts: SupernetFacts) -> None:
    """Write a trained supernet."""
    save_tensors(path, supernet.state_dict(), facts)


def load_supernet(path: Path) -> tuple[Supernet, SupernetFacts]:
    """Read a trained supernet from a file or training folder.

    Raises:
        UserError: missing or damaged file, unknown space, or weights that do not fit the space.
    """
    path = checkpoint_path(path)
    tensors, facts = load_tensors(path)
    supernet = Supernet(facts.search_space)
    try:
        supernet.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"checkpoint {path} does not fit space {facts.space}: {first}") from error
    return channels_last(supernet).eval(), facts
