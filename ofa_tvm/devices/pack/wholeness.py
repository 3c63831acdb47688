"""Whether a folder is a pack that can be measured: what its manifest and entries must say, and hashes of its files.

It lies in a pack beside ``measure.py``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ofa_tvm.devices.pack.pack_files import ENTRIES, MANIFEST, RESULTS, Record, read_lines

Kinds = dict[str, type]
OF_MANIFEST: Kinds = {"round": str, "files": dict, "machine": str, "device": str, "measure": dict}
OF_LIBRARY: Kinds = {"id": str, "form": str, "library": str, "files": dict, "expected": dict}
OF_FORMS: dict[str, Kinds] = {
    "program": {"arguments": str, "outputs": list, "output_bytes": int},
    "function": {"inputs": list, "outputs": list},
    "subnet": {"inputs": list, "outputs": list, "reference": dict},
    "virtual_machine": {"inputs": list, "reference": dict},
}
"""What must be said, and the kind of it: of all libraries, and of those of each form."""

STATUSES = ("ok", "failed", "wrong_output", "crashed", "timed_out")
LEAST_MS = 1e-6
"""No time is shorter: light goes a foot in it."""
MOST = 1e9
"""Of milliseconds and millijoules."""


def what_lacks(folder: Path) -> str:
    """Why a folder is no pack that can be measured; empty where it is one."""
    for name in (MANIFEST, ENTRIES, RESULTS):
        if (folder / name).exists() and not (folder / name).is_file():
            return f"{name}: no regular file; remove it"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    entries, _ = read_lines(folder / ENTRIES)
    if not entries:
        return f"{ENTRIES} is missing or holds nothing to measure"
    if lacking := _lacking(manifest, OF_MANIFEST) or _lacking(manifest["measure"], {"timeout_s": object}):
        return f"{MANIFEST} does not say {lacking}"
    for entry in entries:
        if lacking := _lacking_of_entry(entry):
            return f"{ENTRIES}: entry {str(entry.get('id'))[:40]!r} does not say {lacking}"
    return ""


def _lacking(record: object, kinds: Kinds) -> str:
    """What a record should say and does not, or as another kind; empty where it says all."""
    known = record if isinstance(record, dict) else {}
    return ", ".join(name for name, kind in kinds.items() if name not in known or not isinstance(known[name], kind))


def _lacking_of_entry(entry: Record) -> str:
    form = OF_FORMS.get(str(entry.get("form")))
    if form is None:
        return "a known form"
    lacking = _lacking(entry, {"title": str, **OF_LIBRARY, **form})
    if lacking or "reference" not in form:
        return lacking
    return _lacking(entry["reference"], {**OF_LIBRARY, "inputs": list})


def is_answer(record: Record) -> bool:
    """Whether a line of results says what became of an entry, with times that can be."""
    if not isinstance(record.get("id"), str) or record.get("status") not in STATUSES:
        return False
    times, others = record.get("times_ms", []), record.get("reference_ms", [])
    if not isinstance(times, list) or not isinstance(others, list) or bool(times) != (record["status"] == "ok"):
        return False
    energy = record.get("energy_mj")
    if (record.get("is_checked") is False and record["status"] == "ok") or not all(map(_is_amount, times + others)):
        return False
    return all(time >= LEAST_MS for time in times + others) and (energy is None or _is_amount(energy))


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MOST


def damaged_files(folder: Path, files: Record, entries: list[Record]) -> list[str]:
    """Names of files that are missing or not what the manifest and entries say."""
    damaged, wanted = [], dict(files)
    for entry in entries:
        wanted.update(entry["files"])
        wanted.update(entry.get("reference", {}).get("files", {}))
    for name, digest in wanted.items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            damaged.append(name)
    return damaged
