"""What comes back from a pack: results that can be trusted go into the log, each once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from ofa_tvm.devices.pack import measure as pack_measure
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import get_space
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, append_jsonl, read_json, read_jsonl
from ofa_tvm.timing.window import Window
from ofa_tvm.tuner.candidate import Candidate
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records, read_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.measured_traces import keep_traces
from ofa_tvm.tuner.trial import TrialResult, TrialStatus

IMPORTS_FILE = "packs.jsonl"
MAX_MS = 1e7
"""No time is longer: it would be hours."""


@dataclass(frozen=True)
class Imported:
    """What came back: results and latencies of subnets taken; failed ones; lines left out; kernels without a result."""

    results: int
    subnets: int
    failures: int
    known: int
    damaged: int
    missing: int
    device: str


def read_manifest(folder: Path, target: TargetSpec) -> Record:
    """A pack's manifest, which must be for the target.

    Raises:
        UserError: it is missing, damaged, or of other conditions.
    """
    path = folder / pack_measure.MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not a pack: it has no {path.name}", "give the folder that --export-pack wrote")
    manifest = read_json(path, "pack manifest")
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UserError(f"{path} is not a pack manifest of this version", "export the pack again")
    if manifest.get("conditions") != json.loads(json.dumps(target.conditions)):
        raise UserError(
            f"{folder} was made for {manifest.get('target')} ({manifest.get('fingerprint')}), "
            f"not for {target.name} ({target.fingerprint})",
            "name the target, batch and threads that it was exported with",
        )
    entries = manifest.get("entries")
    if not isinstance(entries, list) or not isinstance(manifest.get("round"), str):
        raise UserError(f"{path} is damaged", "copy it again from where the pack was made")
    for entry in entries:
        if isinstance(entry, dict) and "subnet" in entry:
            _check_subnet(entry)
            continue
        candidate = _candidate(entry)
        if candidate is not None and candidate.digest != entry.get("id"):
            raise UserError(f"{path} is damaged: an entry is not what its name says", "copy it again")
    return manifest


def _check_subnet(entry: Record) -> None:
    strings = [entry.get(name) for name in ("id", "space", "subnet", "schedules")]
    if not all(isinstance(value, str) for value in strings) or not isinstance(entry.get("classes"), int):
        raise UserError("a pack's entry of a subnet is damaged", "copy the manifest again")
    get_space(entry["space"])


def _candidate(entry: Any) -> Candidate | None:
    try:
        return Candidate(**entry["candidate"]) if "candidate" in entry else None
    except (TypeError, KeyError) as error:
        raise UserError(f"a pack's entry is damaged: {error}", "copy the manifest again") from error


def import_kernels(folder: Path, target: TargetSpec, tuning_log: TuningLog) -> Imported:
    """Take a pack's results of kernels into the log, which the caller holds; nothing is taken twice.

    Raises:
        UserError: the pack or its results cannot be used, or come from another device than earlier ones.
    """
    manifest = read_manifest(folder, target)
    records, damaged = _records(folder, manifest["round"])
    device = _device(folder, records)
    _check_device(tuning_log.folder, device)
    candidates = {entry["id"]: _candidate(entry) for entry in manifest["entries"] if "candidate" in entry}
    best: dict[str, tuple[Candidate, TrialResult]] = {}
    for record in records:
        candidate = candidates.get(str(record.get("id")))
        if candidate is None:
            continue
        result = _result(record)
        if result is None:
            damaged += 1
        else:
            best[candidate.digest] = (candidate, result)
    subnets, unusable = _subnets(manifest, records, tuning_log.folder)
    damaged += unusable
    if damaged:
        warn(f"{folder / pack_measure.RESULTS}: {damaged} damaged lines are left out; measure.py measures them again")
    new = [pair for digest, pair in best.items() if digest not in tuning_log.tried]
    if len(new) >= pack_measure.FIRST and all(result.status != "ok" for _, result in new):
        raise UserError(
            f"all {len(new)} results of {folder} failed: {new[-1][1].error}",
            f"was it measured on the device of {target.name}? remove {pack_measure.RESULTS}, measure again there",
        )
    for kernel in dict.fromkeys(candidate.kernel for candidate, _ in new):
        mine = [pair for pair in new if pair[0].kernel == kernel]
        keep_traces(tuning_log.folder, mine)
        tuning_log.commit(kernel, mine)
    append_records(tuning_log.folder, subnets)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {
        "round": manifest["round"],
        "results": len(new),
        "subnets": len(subnets),
        "imported_at": now,
        "device": device,
    }
    append_jsonl(tuning_log.folder / IMPORTS_FILE, [line])
    return Imported(
        results=len(new),
        subnets=len(subnets),
        failures=sum(result.status != "ok" for _, result in new),
        known=len(best) - len(new),
        damaged=damaged,
        missing=len(candidates) - len(best),
        device=str(device.get("name")),
    )


def _subnets(manifest: Record, records: list[Record], folder: Path) -> tuple[list[LatencyRecord], int]:
    """Latencies of subnets that the log's folder does not hold yet, and how many lines make no sense."""
    entries = {entry["id"]: entry for entry in manifest["entries"] if "subnet" in entry}
    imported: set[tuple[str, str]] = set()
    for space, classes in {(entry["space"], _other_classes(entry)) for entry in entries.values()}:
        imported |= {
            (latency_record.subnet, latency_record.measured_at)
            for latency_record in read_records(folder, space, classes)
        }
    new: dict[tuple[str, str], LatencyRecord] = {}
    unusable = 0
    for record in records:
        entry = entries.get(str(record.get("id")))
        if entry is None:
            continue
        latency = _latency_record(entry, record)
        if latency is None:
            unusable += 1
        elif (latency.subnet, latency.measured_at) not in imported:
            new[latency.subnet, latency.measured_at] = latency
    return list(new.values()), unusable


def _latency_record(entry: Record, record: Record) -> LatencyRecord | None:
    """The latency record in a line; None where it makes no sense."""
    result, reference_ms = _result(record), record.get("reference_ms", [])
    if result is None or not _are_times(reference_ms) or len(reference_ms) != len(result.times_ms):
        return None
    try:
        figures = tuple(Window.of(figure).figures() for figure in record.get("figures", []))
        measured_at = datetime.fromtimestamp(record["at"], UTC).isoformat(timespec="milliseconds")
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        return None
    if figures and tuple(figure[0] for figure in figures) != result.times_ms:
        return None  # packs of older versions have no figures
    return LatencyRecord(
        space=entry["space"],
        subnet=entry["subnet"],
        status=result.status,
        times_ms=result.times_ms,
        reference_ms=tuple(map(float, reference_ms)),
        figures=figures,
        schedules=entry["schedules"],
        provenance="measured",
        measured_at=measured_at,
        error=result.error,
        classes=_other_classes(entry),
    )


def _other_classes(entry: Record) -> int | None:
    """The number of classes where it is not that of the space itself."""
    return None if entry["classes"] == get_space(entry["space"]).classes else int(entry["classes"])


def _records(folder: Path, name: str) -> tuple[list[Record], int]:
    """Records of a round, and how many lines are damaged.

    Raises:
        UserError: there is none.
    """
    path = folder / pack_measure.RESULTS
    if not path.is_file():
        raise UserError(
            f"{path} does not exist", "run measure.py on the device, and bring that file back into the pack"
        )
    records, damaged = pack_measure.read_results(path)
    mine = [record for record in records if record.get("round") == name]
    if not mine:
        others = "are of another pack" if records else "could be read"
        raise UserError(f"{path} holds no results of this pack: {len(records)} lines {others}, {damaged} are damaged")
    return mine, damaged


def _device(folder: Path, records: list[Record]) -> Record:
    devices = [record["device"] for record in records if isinstance(record.get("device"), dict)]
    names = {str(device.get("name")) for device in devices}
    if len(names) > 1:
        raise UserError(
            f"{folder / pack_measure.RESULTS} holds results of several devices: {', '.join(sorted(names))}",
            "keep the lines of one of them",
        )
    return {"name": "unknown: its line is damaged", **(devices[-1] if devices else {})}


def _check_device(folder: Path, device: Record) -> None:
    """Check that the results come from the same device as earlier ones: a log holds times of one device."""
    for line in read_jsonl(folder / IMPORTS_FILE, "list of packs"):
        before = line.get("device", {}).get("name")
        if before != device["name"] and "unknown" not in f"{before} {device['name']}":
            raise UserError(
                f"these results come from '{device['name']}', those in {folder} from '{before}'",
                "copy the target's file under another name, and use that for the other device",
            )


def _result(record: Record) -> TrialResult | None:
    """The trial result in a line; None where its values make no sense."""
    status: TrialStatus | None = next(
        (known_status for known_status in get_args(TrialStatus) if known_status == record.get("status")), None
    )
    times = record.get("times_ms", [])
    if status is None or not isinstance(times, list):
        return None
    if not _are_times(times) or (status == "ok") != bool(times):
        return None
    error = str(record.get("error", ""))[:300]
    return TrialResult(status, tuple(map(float, times)), error, record.get("is_checked") is True)


def _are_times(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    return all(isinstance(value, int | float) and 0 < value <= MAX_MS for value in values)
