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
LEAST_MS, MOST_MS = 5e-6, 1e7
"""No kernel is done in twenty cycles, the shortest of our networks takes a hundred; and none takes hours."""
MOST = 1e9
"""Of millijoules, and of any figure."""
MOST_SECONDS = 253402300799
"""Since 1970, of the years that have four digits."""
FIGURES = 10
"""Of a window: six times, then how many calls there were, and three numbers that may be 0."""


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


def is_answer(record: Record, of_subnet: bool) -> bool:
    """Whether a line of results says what became of an entry, with numbers that can be.

    What this refuses is left out by the import and measured again by ``measure.py``: nothing else decides that.

    Args:
        record: the line's.
        of_subnet: whether the entry is a subnet, whose line also says when, and what the reference subnet took;
            otherwise it is a kernel's candidate, whose output counts only if it was checked.
    """
    status, at = record.get("status"), record.get("at")
    if not isinstance(record.get("id"), str) or status not in STATUSES or not isinstance(record.get("error", ""), str):
        return False
    if status == "ok" and record.get("is_checked", of_subnet) is not True:
        return False
    if not (_is_number(at, 1, MOST_SECONDS) or (at is None and not of_subnet)):
        return False
    energy = record.get("energy_mj")  # a GPU draws a watt at least, so no fewer millijoules than milliseconds
    return _has_times(record, of_subnet) and (energy is None or _is_number(energy, LEAST_MS, MOST))


def _has_times(record: Record, of_subnet: bool) -> bool:
    """Whether there are times where it is ok, and only there; a subnet's with as many of the reference."""
    times, others, figures = (record.get(name, []) for name in ("times_ms", "reference_ms", "figures"))
    if not all(isinstance(values, list) for values in (times, others, figures)):
        return False
    if bool(times) != (record["status"] == "ok") or (of_subnet and len(times) != len(others)):
        return False
    if not all(_is_number(time, LEAST_MS, MOST_MS) for time in times + others):
        return False
    return not figures or (len(figures) == len(times) and all(map(_is_window, figures, times)))


def _is_window(figures: object, time: float) -> bool:
    """Whether these are a window's figures, see ``timing.window.Window`` in ofa_tvm, and its time is the first."""
    if not isinstance(figures, list) or len(figures) != FIGURES or not all(_is_number(one, 0, MOST) for one in figures):
        return False
    return bool(figures[0] == time and min(figures[:6]) > 0 and figures[6] >= 1)


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


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
