"""JSON files that carry a hash of everything else in them: an edited or damaged number is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, read_json, write_json
from ofa_tvm.support.json_text import json_text

SEAL = "sha256"


def digest_of(content: Record) -> str:
    """Hex SHA-256 of a JSON object, however it is laid out in a file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: Record) -> None:
    """Write a JSON file with a hash of its content, atomically."""
    write_json(path, {**content, SEAL: digest_of(json.loads(json_text(content)))})


def read_sealed(path: Path, what: str, hint: str) -> Record:
    """Read a JSON file whose hash fits; returns its content without the hash.

    Raises:
        UserError: it is missing, no JSON object, or not what was written.
    """
    content = read_json(path, what, hint)
    if not isinstance(content, dict):
        raise UserError(f"{what} {path} is damaged: it is no JSON object", hint)
    seal = content.pop(SEAL, None)
    if seal != digest_of(content):
        said = "it carries no hash of its content" if seal is None else "its content is not what its hash says"
        raise UserError(f"{what} {path} is damaged, or of another version: {said}", hint)
    return content
