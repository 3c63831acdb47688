"""Supernet checkpoints: safetensors with the facts about the weights in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ofa_tvm.supernet.elastic import channels_last
from ofa_tvm.supernet.facts import (
    FACTS_SEAL,
    FORMAT,
    TENSORS_SEAL,
    SupernetFacts,
    checkpoint_path,
    damaged,
    digest_of_facts,
    read_facts,
)
from ofa_tvm.supernet.model import Supernet
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file, write_atomic
from ofa_tvm.support.json_text import json_text
from ofa_tvm.support.shipped import shipped_supernets, vouched_sha256


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: SupernetFacts) -> None:
    """Write tensors and facts atomically."""
    text = json_text(asdict(facts))
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = {
        "format": FORMAT,
        "facts": text,
        FACTS_SEAL: digest_of_facts(text),
        TENSORS_SEAL: _digest(contiguous),
    }
    write_atomic(path, lambda temporary: _write(temporary, save(contiguous, header)))


def _write(path: Path, content: bytes) -> None:
    """Write a safetensors file with its facts in order, so that equal supernets are equal files."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(content)[8 + size :])


def _vouched(path: Path) -> str | None:
    """What a manifest beside a checkpoint says of it; in a folder of one's own, such a file may be anything."""
    try:
        return vouched_sha256(path)
    except UserError:
        if path.resolve().parent in shipped_supernets():
            raise
        return None


def load_tensors(path: Path) -> tuple[dict[str, Tensor], SupernetFacts]:
    """Read tensors and facts.

    Raises:
        UserError: missing, damaged, or not a supernet of this format; or one with numbers that are not those that were
            written.
    """
    facts = read_facts(path)
    try:
        with safe_open(path, framework="pt") as file:
            seal = (file.metadata() or {}).get(TENSORS_SEAL)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        vouched = _vouched(path)
        is_other_file = vouched is not None and vouched != sha256_file(path)
        if seal not in (None, _digest(tensors)) or is_other_file:
            raise ValueError("its weights are not what their hash says")
    except (SafetensorError, ValueError, OSError) as error:
        raise damaged(path, error) from error
    if name := not_finite(tensors):
        raise damaged(path, ValueError(f"{name} holds numbers that are not finite"))
    return tensors, facts


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Name of the first tensor with a number that is not finite; empty where there is none; waits for the device."""
    found = (name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all())
    return next(found, "")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of contiguous tensors with their names, types and shapes."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


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
