"""What comes back from a pack: results that can be trusted go into the log, each once."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter

from ofa_tvm.devices.pack import pack_files
from ofa_tvm.devices.pack.entries import COPY, PackEntry, read_entries
from ofa_tvm.devices.pack.measure import FIRST
from ofa_tvm.devices.pack.wholeness import is_answer
from ofa_tvm.devices.pack.writer import SCHEMA
from ofa_tvm.hardware.target import TargetSpec
from ofa_tvm.spaces import get_space
from ofa_tvm.support.console import warn
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import Record, append_jsonl
from ofa_tvm.support.typed import Count, read_form, read_lines
from ofa_tvm.tuner.latency_records import LatencyRecord, append_records, read_records
from ofa_tvm.tuner.log import TuningLog
from ofa_tvm.tuner.measured_traces import keep_traces
from ofa_tvm.tuner.trial import TrialResult

IMPORTS_FILE = "packs.jsonl"
OLDEST_SCHEMA = 2
"""Of a pack's manifest. Only what ``measure.py`` reads has changed since, which is in the pack itself."""
COMPUTE_CAPABILITY = re.compile(r"\d+\.\d")
UNKNOWN = "unknown"
"""In names of devices that nothing tells, as ``measure.py`` writes them, too."""


@dataclass(frozen=True)
class Imported:
    """What came back of a pack.

    Args:
        results: of candidates, taken into the log.
        subnets: latencies of subnets, likewise.
        failures: those of the results that failed.
        failed_subnets: subnets that failed; the log keeps that too.
        known: of candidates and subnets, in the log before.
        damaged: lines of results that are left out.
        strays: results whose line of ``entries.jsonl`` cannot be read; they are left out, too.
        missing: candidates and subnets without a result.
        device: its name.
        error: why the last subnet failed.
    """

    results: int
    subnets: int
    failures: int
    failed_subnets: int
    known: int
    damaged: int
    strays: int
    missing: int
    device: str
    error: str = ""


class PackManifest(BaseModel):
    """What ``manifest.json`` of a pack says. Other keys are for the device."""

    schema_version: int = Field(alias="schema", ge=OLDEST_SCHEMA, le=SCHEMA)
    round: str
    target: str
    fingerprint: str
    conditions: Record


class _Import(BaseModel):
    """A line of ``packs.jsonl``."""

    round: str
    results: Count
    subnets: Count = 0
    imported_at: str
    device: Record


_MANIFEST, _IMPORT = TypeAdapter(PackManifest), TypeAdapter(_Import)


def read_manifest(folder: Path, target: TargetSpec) -> PackManifest:
    """A pack's manifest, which must be for the target.

    Raises:
        UserError: it is missing, damaged, or of other conditions.
    """
    path = folder / pack_files.MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not a pack: it has no {path.name}", "give the folder that --export-pack wrote")
    manifest = read_form(path, "pack manifest", _MANIFEST, COPY)
    wanted = json.loads(json.dumps(target.conditions))
    if (manifest.target, manifest.fingerprint) == (target.name, target.fingerprint) and manifest.conditions != wanted:
        names = manifest.conditions.keys() | wanted.keys()
        other = ", ".join(sorted(name for name in names if manifest.conditions.get(name) != wanted.get(name)))
        raise UserError(f"{path} is damaged: its conditions are not those of its fingerprint ({other})", COPY)
    if manifest.conditions != wanted:
        raise UserError(
            f"{folder} was made for {manifest.target} ({manifest.fingerprint}), "
            f"not for {target.name} ({target.fingerprint})",
            "name the target, batch, threads and dtype that it was exported with",
        )
    return manifest


def import_kernels(folder: Path, target: TargetSpec, tuning_log: TuningLog) -> Imported:
    """Take a pack's results of kernels into the log, which the caller holds; nothing is taken twice.

    Raises:
        UserError: the pack or its results cannot be used, or come from another device than earlier ones.
    """
    manifest, entries = read_manifest(folder, target), read_entries(folder)
    records, damaged = _records(folder, manifest.round)
    device = _device(folder, records)
    _check_device(tuning_log.folder, device)
    _check_chip(target, device)
    candidates = {entry.id: entry.candidate for entry in entries if entry.candidate is not None}
    subnets = {entry.id: entry for entry in entries if entry.candidate is None}
    told = [record for record in records if str(record.get("id")) in candidates.keys() | subnets.keys()]
    answers = [record for record in told if is_answer(record, str(record["id"]) in subnets)]
    damaged += len(told) - len(answers)
    best = {
        record["id"]: (candidates[record["id"]], _result(record)) for record in answers if record["id"] in candidates
    }
    timed = [record for record in answers if record["id"] in subnets]
    found = {record["id"] for record in timed}
    latencies = _new(tuning_log.folder, [_latency_record(subnets[record["id"]], record) for record in timed])
    failed = [record for record in latencies if record.status != "ok"]
    if damaged:
        warn(f"{folder / pack_files.RESULTS}: {damaged} damaged lines are left out; measure.py measures them again")
    new = [pair for digest, pair in best.items() if digest not in tuning_log.tried]
    if len(new) >= FIRST and all(result.status != "ok" for _, result in new):
        raise UserError(
            f"all {len(new)} results of {folder} failed: {new[-1][1].error}",
            f"was it measured on the device of {target.name}? remove {pack_files.RESULTS}, measure again there",
        )
    line = {
        "round": manifest.round,
        "results": len(new),
        "subnets": len(latencies),
        "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
    }
    # First the device: after a kill below, results of another one are still refused.
    append_jsonl(tuning_log.folder / IMPORTS_FILE, [line])
    for kernel in dict.fromkeys(candidate.kernel for candidate, _ in new):
        mine = [pair for pair in new if pair[0].kernel == kernel]
        keep_traces(tuning_log.folder, mine)
        tuning_log.commit(kernel, mine)
    append_records(tuning_log.folder, latencies)
    return Imported(
        results=len(new),
        subnets=len(latencies) - len(failed),
        failures=sum(result.status != "ok" for _, result in new),
        failed_subnets=len(failed),
        known=len(best) - len(new) + max(0, len(found) - len(latencies)),
        damaged=damaged,
        strays=len({str(record["id"]) for record in records if "id" in record} - candidates.keys() - subnets.keys()),
        missing=len(candidates) + len(subnets) - len(best) - len(found),
        device=str(device.get("name")),
        error=failed[-1].error if failed else "",
    )


def _result(record: Record) -> TrialResult:
    """What a line told of a candidate."""
    status = record["status"]
    return TrialResult(status, _numbers(record, "times_ms"), _error(record), is_checked=status == "ok")


def _new(folder: Path, found: Sequence[LatencyRecord]) -> list[LatencyRecord]:
    """The latencies that a log's folder does not hold yet."""
    known = {
        (record.subnet, record.measured_at)
        for space, classes in {(record.space, record.classes) for record in found}
        for record in read_records(folder, space, classes)
    }
    new = {(record.subnet, record.measured_at): record for record in found}
    return [record for identity, record in new.items() if identity not in known]


def _latency_record(entry: PackEntry, record: Record) -> LatencyRecord:
    """What a line told of a subnet. Packs of older versions have no figures."""
    assert entry.space and entry.subnet and entry.schedules is not None
    return LatencyRecord(
        space=entry.space,
        subnet=entry.subnet,
        status=record["status"],
        times_ms=_numbers(record, "times_ms"),
        reference_ms=_numbers(record, "reference_ms"),
        figures=tuple(tuple(map(float, figures)) for figures in record.get("figures", ())),
        energy_mj=record.get("energy_mj"),
        schedules=entry.schedules,
        provenance="measured",
        measured_at=datetime.fromtimestamp(record["at"], UTC).isoformat(timespec="milliseconds"),
        error=_error(record),
        classes=None if entry.classes == get_space(entry.space).classes else entry.classes,
    )


def _numbers(record: Record, name: str) -> tuple[float, ...]:
    return tuple(map(float, record.get(name, ())))


def _error(record: Record) -> str:
    """As text that can be written: names of files that are not UTF-8 come as halves of letters."""
    return str(record.get("error", "")).encode(errors="replace").decode()[:300]


def _records(folder: Path, name: str) -> tuple[list[Record], int]:
    """Records of a round, and how many lines are damaged.

    Raises:
        UserError: there is none.
    """
    path = folder / pack_files.RESULTS
    if not path.is_file():
        raise UserError(
            f"{path} does not exist", "run measure.py on the device, and bring that file back into the pack"
        )
    records, damaged = pack_files.read_lines(path)
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
            f"{folder / pack_files.RESULTS} holds results of several devices: {', '.join(sorted(names))}",
            "keep the lines of one of them",
        )
    if not devices:
        raise UserError(
            f"{folder / pack_files.RESULTS} does not say on which device it was measured: that line is missing",
            "copy it from the device again; or remove it, and run measure.py there once more",
        )
    return {"name": UNKNOWN, **devices[-1]}


def _check_device(folder: Path, device: Record) -> None:
    """Check that the results come from the same device as earlier ones: a log holds times of one device."""
    for line in read_lines(folder / IMPORTS_FILE, "list of packs", _IMPORT):
        before = line.device.get("name")
        if before != device["name"] and UNKNOWN not in f"{before} {device['name']}":
            raise UserError(
                f"these results come from '{device['name']}', those in {folder} from '{before}'",
                "copy the target's file under another name, and use that for the other device",
            )


def _check_chip(target: TargetSpec, device: Record) -> None:
    """Check that a GPU is of the target's architecture, where that is told; the names of GPUs do not tell it."""
    told = str(device.get("compute_cap", ""))
    if target.is_gpu and COMPUTE_CAPABILITY.fullmatch(told) and (chip := f"sm_{told.replace('.', '')}") != target.chip:
        raise UserError(
            f"these results come from '{device['name']}', which is {chip}; target {target.name} is {target.chip}",
            "export a pack for a target of that GPU, and measure it there",
        )
    if UNKNOWN in str(device["name"]):
        warn(f"nothing says on which device this was measured: take care that it is that of target {target.name}")
