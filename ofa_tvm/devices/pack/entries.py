"""What a pack has to be measured: a line of ``entries.jsonl`` each, whole or not there, so that a pack grows safely."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, TypeAdapter, model_validator

from ofa_tvm.devices.pack.pack_files import ENTRIES, read_lines
from ofa_tvm.spaces import get_space
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.json_text import parse_json
from ofa_tvm.support.typed import Positive, SubnetKey, validated
from ofa_tvm.tuner.candidate import Candidate

MOST_BYTES = 1 << 22
"""Of an unpacked candidate."""
COPY = "copy it again from where the pack was made"


def packed(candidate: Candidate) -> str:
    """A candidate as short text: the device does not read it, and a trace has many thousand characters."""
    return base64.b64encode(zlib.compress(json.dumps(asdict(candidate), sort_keys=True).encode(), 9)).decode()


def _unpacked(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), MOST_BYTES)
        return parse_json(data.decode())
    except zlib.error as error:
        raise ValueError(f"not compressed text: {error}") from error


class PackEntry(BaseModel):
    """What is measured: a candidate of a kernel, or a subnet. Other keys are for the device."""

    id: str
    candidate: Annotated[Candidate | None, BeforeValidator(_unpacked)] = None
    space: str | None = None
    classes: Positive | None = None
    subnet: SubnetKey | None = None
    schedules: str | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        facts = (self.space, self.classes, self.subnet, self.schedules)
        if facts.count(None) != (0 if self.candidate is None else len(facts)):
            raise ValueError("it is neither a candidate nor a subnet")
        if self.candidate is not None and self.candidate.digest != self.id:
            raise ValueError("its candidate is not what its id says")
        return self


_ENTRY = TypeAdapter(PackEntry)


def read_entries(folder: Path) -> list[PackEntry]:
    """The entries of a pack; lines that are damaged are left out with a warning.

    Raises:
        UserError: there are none, or one makes no sense.
    """
    path, found = folder / ENTRIES, []
    if not path.is_file():
        raise UserError(f"the pack {folder} has no {path.name}", COPY)
    records, damaged = read_lines(path)
    if damaged:
        warn(f"{path}: {damaged} damaged lines are left out; {COPY}")
    for record in records:
        try:
            entry = validated(_ENTRY, record)
        except ValueError as error:
            raise UserError(f"{path} is damaged: entry {str(record.get('id'))[:40]}: {error}", COPY) from error
        if entry.space is not None:
            get_space(entry.space).parse(entry.subnet or "")
        found.append(entry)
    if not found:
        raise UserError(f"{path} holds no entry that can be read", COPY)
    return found
